// Of another unit than main.c.
int divide(int a, int b) {
    return a /
           b;
}
