// The Mandelbrot set: floating point in registers, a tight inner loop.
#include "report.h"

int main(void) {
  enum { size = 1400, limit = 200 };
  uint64_t sum = 0;
  for (int y = 0; y < size; y++) {
    for (int x = 0; x < size; x++) {
      double cr = 2.0 * x / size - 1.5, ci = 2.0 * y / size - 1.0, zr = 0, zi = 0;
      int i = 0;
      while (i < limit && zr * zr + zi * zi < 4) {
        double t = zr * zr - zi * zi + cr;
        zi = 2 * zr * zi + ci;
        zr = t;
        i++;
      }
      sum = sum * 31 + i;
    }
  }
  report(sum);
}
