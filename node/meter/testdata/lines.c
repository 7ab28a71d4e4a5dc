/* A trap at the end of some calls, with loops and calls before it, so that all code moves. */
static volatile int sink, zero;

__attribute__((noinline)) static int divide(int a, int b) {
	return a / b; /* line 5 */
}

__attribute__((noinline)) static int middle(int n) {
	int sum = 0;
	for (int i = 0; i < n; i++) {
		sum += divide(100, n - i);
		sink = sum;
	}
	return sum + divide(sum, zero);/* line 14 */
}

__attribute__((noinline)) static int deep(int n) {
	if (n == 0)
		return middle(3); /* line 19 */
	return deep(n - 1) + 1; /* line 20 */
}

__attribute__((export_name("f"))) int f(void) {
	sink = 1;
	return deep(3) * 2; /* line 25 */
}
