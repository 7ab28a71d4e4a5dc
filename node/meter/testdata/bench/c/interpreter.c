// An interpreter of a small bytecode with a stack, which computes primes and
// Fibonacci numbers: a loop around a switch.
#include "report.h"

enum { PUSH, LOAD, STORE, ADD, SUB, MUL, MOD, LESS, EQUAL, JUMP, JUMPZ, GET, PUT, CALL, RET, ARG, HALT };

static const int sieve[] = {
    // i = 2; while (i < 5000) { j = i*i; if (!m[i]) while (j < 5000) { m[j] = 1; j += i }; count += !m[i]; i++ }
    PUSH, 2, STORE, 0,
    /* 4 */ LOAD, 0, PUSH, 5000, LESS, JUMPZ, 65,
    LOAD, 0, LOAD, 0, MUL, STORE, 1,
    /* 18 */ LOAD, 0, GET, PUSH, 0, EQUAL, JUMPZ, 56,
    /* 26 */ LOAD, 1, PUSH, 5000, LESS, JUMPZ, 49,
    PUSH, 1, LOAD, 1, PUT,
    LOAD, 1, LOAD, 0, ADD, STORE, 1,
    PUSH, 0, JUMPZ, 26,
    /* 49 */ LOAD, 2, PUSH, 1, ADD, STORE, 2,
    /* 56 */ LOAD, 0, PUSH, 1, ADD, STORE, 0, JUMP, 4,
    /* 65 */ HALT};

static const int fib[] = {
    PUSH, 22, CALL, 7, STORE, 2, HALT,
    /* 7 */ ARG, PUSH, 2, LESS, JUMPZ, 15, ARG, RET,
    /* 15 */ ARG, PUSH, 1, SUB, CALL, 7, ARG, PUSH, 2, SUB, CALL, 7, ADD, RET};

static int stack[4096], frames[4096], args[4096], memory[5000];

static long run(const int *code) {
  int vars[4] = {0};
  int *sp = stack, *fp = frames, *ap = args;
  const int *pc = code;
  for (;;) {
    switch (*pc++) {
    case PUSH: *sp++ = *pc++; break;
    case LOAD: *sp++ = vars[*pc++]; break;
    case STORE: vars[*pc++] = *--sp; break;
    case ADD: sp--; sp[-1] += *sp; break;
    case SUB: sp--; sp[-1] -= *sp; break;
    case MUL: sp--; sp[-1] *= *sp; break;
    case MOD: sp--; sp[-1] %= *sp; break;
    case LESS: sp--; sp[-1] = sp[-1] < *sp; break;
    case EQUAL: sp--; sp[-1] = sp[-1] == *sp; break;
    case JUMP: pc = code + *pc; break;
    case JUMPZ: pc = *--sp ? pc + 1 : code + *pc; break;
    case GET: sp[-1] = memory[sp[-1]]; break;
    case PUT: sp -= 2; memory[sp[1]] = *sp; break;
    case CALL: *fp++ = (int)(pc + 1 - code); *++ap = *--sp; pc = code + *pc; break;
    case RET: ap--; pc = code + *--fp; break;
    case ARG: *sp++ = *ap; break;
    case HALT: return vars[2];
    }
  }
}

int main(void) {
  uint64_t sum = 0;
  for (int round = 0; round < 300; round++) {
    for (int i = 0; i < 5000; i++) memory[i] = 0;
    sum = sum * 31 + run(sieve);
    sum = sum * 31 + run(fib);
  }
  report(sum);
}
