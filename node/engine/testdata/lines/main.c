// Divides by zero, which traps, three calls deep and in two units.
int divide(int a, int b);

int middle(int n) {
    int sum = 1;
    for (int i = 0; i < 3; i++)
        sum += divide(100, 2 - i);
    return sum;
}

static volatile int result;

__attribute__((export_name("_start"))) void start(void) {
    result = 0;
    result =
        middle(7);
}
