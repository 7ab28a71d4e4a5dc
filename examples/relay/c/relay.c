// Relay uses all three kinds of capabilities: on a message on the topic relay.in,
// whose data is a URL, it fetches that under the capability "web", keeps the
// status and the length of the body in kv under "relay/URL", as "200 1234", and
// publishes "URL 200 1234" on relay.out under "msg". Where the fetch fails it is
// "URL error WHY". relay.wasm is built from this file by the recipe in
// ../../README.md.
//
// It subscribes when it begins; where that was denied, listen may be invoked later.
#include "../../../sdk/c/wasmatrix.h"

enum { MAX_URL = 900 };

static char in[MAX_URL + 256 + 12]; // a message
static char key[MAX_URL + 8];       // "relay/" and the URL
static char line[MAX_URL + 600];    // what is published
static char piece[8192];
static int subscription; // 0 while there is none
static int count;

// append puts a string behind what is at to, and returns where it ends.
static wmx_size append(char *to, wmx_size at, const char *s, wmx_size n) {
    for (wmx_size i = 0; i < n; i++) to[at + i] = s[i];
    return at + n;
}

static wmx_size append_number(char *to, wmx_size at, wmx_u64 n) {
    wmx_size digits = 1;
    for (wmx_u64 m = n; m >= 10; m /= 10) digits++;
    for (wmx_size i = digits; i > 0; n /= 10) to[at + --i] = (char)('0' + n % 10);
    return at + digits;
}

static int listen(void) {
    if (subscription > 0) return 0;
    subscription = wmx_msg_subscribe("msg", "relay.in", "relays", WMX_PUSH);
    return subscription < 0 ? subscription : 0;
}

WMX_EXPORT("_initialize") void begin(void) { listen(); }

WMX_EXPORT("listen") int listen_status(void) {
    static char text[512];
    if (listen() == 0) return 0;
    wmx_output_write(text, (wmx_size)wmx_error_read(text, sizeof text));
    return 1;
}

// fetch returns the status, and the length of the body; or an error.
static int fetch(const char *url, wmx_u64 *length) {
    int handle, n, status = wmx_http_get("web", url, &handle);
    if (status < 0) return status;
    *length = 0;
    while ((n = wmx_http_read(handle, piece, sizeof piece)) > 0) *length += (wmx_u64)n;
    wmx_http_close(handle);
    return n < 0 ? n : status;
}

WMX_ON_MESSAGE int on_message(void) {
    wmx_message m;
    wmx_u64 length = 0;
    wmx_size at, result;
    int e, n = wmx_input(in, sizeof in);
    if (n < 0 || wmx_message_parse(in, (wmx_size)n, &m) < 0 || m.data_len > MAX_URL) return 1;
    at = append(key, append(key, 0, "relay/", 6), m.data, m.data_len);
    key[at] = 0;
    at = append(line, append(line, 0, m.data, m.data_len), " ", 1);
    result = at;
    e = fetch(key + 6, &length);
    if (e >= 0) {
        at = append_number(line, at, (wmx_u64)e);
        at = append_number(line, append(line, at, " ", 1), length);
        e = wmx_kv_set("kv", key, line + result, at - result);
    }
    if (e < 0) {
        at = append(line, result, "error ", 6);
        n = wmx_error_read(line + at, 512);
        at += (wmx_size)n;
    }
    count++;
    return wmx_msg_publish("msg", "relay.out", line, at) < 0;
}

// handled is how many messages the instance has handled since it began.
WMX_EXPORT("handled") int handled(void) { return count; }
