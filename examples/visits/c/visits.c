// Visits counts in kv: visit adds one and returns the count, count only returns
// it. The input names the key, "visits" if it is empty. visits.wasm is built from
// this file by the recipe in ../../README.md.
#include "../../../sdk/c/wasmatrix.h"

enum { STATUS_OK, STATUS_FAILED, STATUS_UNKNOWN };

static char key[WMX_MAX_KEY + 1];
static char value[32];

static int read_key(void) {
    int n = wmx_input(key, WMX_MAX_KEY);
    if (n < 0) return n;
    if (n == 0) {
        const char *name = "visits";
        for (; name[n]; n++) key[n] = name[n];
    }
    key[n] = 0;
    return 0;
}

// get is the count that there is, and its revision; or an error.
static int get(wmx_u64 *count, wmx_u64 *revision) {
    int n = wmx_kv_get("kv", key, value, sizeof value, revision);
    *count = 0;
    if (n == -WMX_E_NOT_FOUND) return 0;
    if (n < 0) return n;
    if (n > (int)sizeof value) return -WMX_E_TOO_LARGE;
    for (int i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9') return -WMX_E_INVALID;
        *count = *count * 10 + (wmx_u64)(value[i] - '0');
    }
    return 0;
}

static wmx_size format(wmx_u64 n) {
    wmx_size len = 1, at;
    for (wmx_u64 m = n; m >= 10; m /= 10) len++;
    for (at = len; at > 0; n /= 10) value[--at] = (char)('0' + n % 10);
    return len;
}

static int failed(int error) {
    static char text[512];
    int n = wmx_error_read(text, sizeof text);
    if (n <= 0)
        wmx_print("the value is not a count");
    else
        wmx_output_write(text, (wmx_size)n);
    return error == -WMX_E_UNAVAILABLE || error == -WMX_E_TIMEOUT || error == -WMX_E_FAILED ? STATUS_UNKNOWN : STATUS_FAILED;
}

// visit adds one by compare-and-swap: who is overtaken tries again.
WMX_EXPORT("visit") int visit(void) {
    wmx_u64 count, revision;
    int e = read_key();
    if (e < 0) return failed(e);
    do {
        if ((e = get(&count, &revision)) < 0) return failed(e);
        e = wmx_kv_cas("kv", key, value, format(++count), &revision);
    } while (e == -WMX_E_CONFLICT);
    if (e < 0) return failed(e);
    wmx_print_u64(count);
    return STATUS_OK;
}

WMX_EXPORT("count") int count(void) {
    wmx_u64 n, revision;
    int e = read_key();
    if (e < 0 || (e = get(&n, &revision)) < 0) return failed(e);
    wmx_print_u64(n);
    return STATUS_OK;
}
