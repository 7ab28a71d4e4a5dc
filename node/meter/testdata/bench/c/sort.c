// Sorting: the library's qsort, which calls through a pointer, a quicksort and a heap.
#include <stdlib.h>
#include <string.h>
#include "report.h"

enum { n = 400000 };
static uint32_t source[n], data[n];

static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void quicksort(uint32_t *a, int lo, int hi) {
  while (lo < hi) {
    uint32_t pivot = a[(lo + hi) / 2];
    int i = lo, j = hi;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i <= j) {
        uint32_t t = a[i];
        a[i++] = a[j];
        a[j--] = t;
      }
    }
    quicksort(a, lo, j);
    lo = i;
  }
}

static void heapsort_(uint32_t *a, int count) {
  for (int end = count, start = count / 2; end > 1;) {
    if (start) start--;
    else {
      uint32_t t = a[--end];
      a[end] = a[0];
      a[0] = t;
    }
    for (int root = start, child; (child = 2 * root + 1) < end; root = child) {
      if (child + 1 < end && a[child] < a[child + 1]) child++;
      if (a[root] >= a[child]) break;
      uint32_t t = a[root];
      a[root] = a[child];
      a[child] = t;
    }
  }
}

static uint64_t digest(void) {
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) sum = sum * 31 + data[i];
  return sum;
}

int main(void) {
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) source[i] = next();
  for (int round = 0; round < 3; round++) {
    memcpy(data, source, sizeof data);
    qsort(data, n, sizeof *data, compare);
    sum += digest();
    memcpy(data, source, sizeof data);
    quicksort(data, 0, n - 1);
    sum ^= digest() * 3;
    memcpy(data, source, sizeof data);
    heapsort_(data, n);
    sum += digest();
  }
  report(sum);
}
