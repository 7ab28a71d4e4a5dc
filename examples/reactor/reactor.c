// A reactor: it has no beginning and no end of its own, and stays to be called.
// It needs no library, no WASI and no memory beyond its own. reactor.wasm is built
// from this file by the recipe in ../README.md.

#define EXPORT(name) __attribute__((export_name(name)))

static unsigned long long calls;

// add returns the sum of two numbers, which wraps at 32 bits.
EXPORT("add") unsigned add(unsigned a, unsigned b) {
    calls++;
    return a + b;
}

// fib returns the nth Fibonacci number, which fits 64 bits up to n = 93, and 0
// for n below 0.
EXPORT("fib") unsigned long long fib(int n) {
    unsigned long long a = 0, b = 1;
    calls++;
    for (; n > 0; n--) {
        unsigned long long c = a + b;
        a = b;
        b = c;
    }
    return a;
}

// calls returns how often add and fib were called since this instance began:
// a restart begins at 0 again.
EXPORT("calls") unsigned long long count_calls(void) { return calls; }
