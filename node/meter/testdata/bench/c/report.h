// Shared by the programs of this folder: how they tell what they computed, and
// a source of numbers that is the same everywhere.
#include <stdint.h>
#include <unistd.h>

static inline void report(uint64_t n) {
  char line[17];
  for (int i = 15; i >= 0; i--, n >>= 4) line[i] = "0123456789abcdef"[n & 15];
  line[16] = '\n';
  write(1, line, sizeof line);
}

static inline uint64_t bits(double d) {
  union { double d; uint64_t n; } u = {d};
  return u.n;
}

static uint64_t seed = 88172645463325252ull;

static inline uint64_t next(void) { // xorshift64
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}
