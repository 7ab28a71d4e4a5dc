// Products of matrices: three nested loops over memory.
#include "report.h"

enum { n = 320 };
static double a[n][n], b[n][n], c[n][n];

int main(void) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) a[i][j] = next() % 1000, b[i][j] = next() % 1000;
  double sum = 0;
  for (int round = 0; round < 16; round++) {
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++) {
        double s = 0;
        for (int k = 0; k < n; k++) s += a[i][k] * b[k][j];
        c[i][j] = s;
      }
    sum += c[round][n - 1];
    a[0][round] += 1;
  }
  report(bits(sum));
}
