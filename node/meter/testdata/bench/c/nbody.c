// The planets' paths: floating point, short loops, square roots.
#include <math.h>
#include "report.h"

typedef struct { double x, y, z, vx, vy, vz, mass; } body;

static body bodies[5];

static void advance(double dt) {
  for (int i = 0; i < 5; i++) {
    body *a = &bodies[i];
    for (int j = i + 1; j < 5; j++) {
      body *b = &bodies[j];
      double dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
      double d2 = dx * dx + dy * dy + dz * dz;
      double mag = dt / (d2 * sqrt(d2));
      a->vx -= dx * b->mass * mag; a->vy -= dy * b->mass * mag; a->vz -= dz * b->mass * mag;
      b->vx += dx * a->mass * mag; b->vy += dy * a->mass * mag; b->vz += dz * a->mass * mag;
    }
  }
  for (int i = 0; i < 5; i++) {
    body *a = &bodies[i];
    a->x += dt * a->vx; a->y += dt * a->vy; a->z += dt * a->vz;
  }
}

static double energy(void) {
  double e = 0;
  for (int i = 0; i < 5; i++) {
    body *a = &bodies[i];
    e += 0.5 * a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz);
    for (int j = i + 1; j < 5; j++) {
      double dx = a->x - bodies[j].x, dy = a->y - bodies[j].y, dz = a->z - bodies[j].z;
      e -= a->mass * bodies[j].mass / sqrt(dx * dx + dy * dy + dz * dz);
    }
  }
  return e;
}

int main(void) {
  for (int i = 0; i < 5; i++) {
    double *f = &bodies[i].x;
    for (int k = 0; k < 6; k++) f[k] = (double)(next() >> 11) / (1ull << 53) * (k < 3 ? 30 : 2);
    bodies[i].mass = i == 0 ? 39.5 : 0.01 * i;
  }
  for (int i = 0; i < 6000000; i++) advance(0.001);
  report(bits(energy()));
}
