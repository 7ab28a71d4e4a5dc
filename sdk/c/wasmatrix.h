/* wasmatrix.h: what a guest of wasmatrix has of its host, in C99.
 *
 * It needs no library and no other file:
 *
 *     clang --target=wasm32 -Os -nostdlib -Wl,--no-entry -o guest.wasm guest.c
 *
 * Names that begin with wmx_ and are declared here are the host's functions as
 * docs/abi.md describes them: what is here says it shortly. The functions below
 * them, static and small, take strings that end with a zero and do what most
 * guests want. A module imports only what it calls.
 *
 * Results below zero are errors, WMX_E_... negated. Addresses are those of
 * wasm32. Nothing is allocated, and the host keeps no address after a call.
 */
#ifndef WASMATRIX_H
#define WASMATRIX_H

#ifdef __cplusplus
extern "C" {
#endif

typedef unsigned int wmx_size;        /* 32 bits */
typedef unsigned long long wmx_u64;   /* 64 bits */
typedef long long wmx_i64;

/* Errors, which results are negated. */
enum {
    WMX_E_BOUNDS = 1,       /* memory beyond the guest's own was named */
    WMX_E_TOO_LARGE = 2,    /* more than the host takes */
    WMX_E_NO_CALL = 3,      /* no invocation that takes bytes is under way */
    WMX_E_DENIED = 4,       /* no such capability, or its permissions do not allow it */
    WMX_E_NOT_FOUND = 5,    /* no such key */
    WMX_E_CONFLICT = 6,     /* the revision is not the one expected */
    WMX_E_INVALID = 7,      /* an argument is malformed */
    WMX_E_UNAVAILABLE = 8,  /* the provider is out of reach; the effect of a write is unknown */
    WMX_E_LIMIT = 9,        /* a limit or quota was reached */
    WMX_E_TIMEOUT = 10,     /* time ran out; the effect of a write is unknown */
    WMX_E_HANDLE = 11,      /* no such request or subscription is open */
    WMX_E_FAILED = 12       /* the other side failed */
};

/* Bounds, in bytes. */
enum {
    WMX_MAX_CAPABILITY_ID = 64,
    WMX_MAX_KEY = 1024,
    WMX_MAX_VALUE = 1 << 20,
    WMX_MAX_MESSAGE = 1 << 20,
    WMX_MAX_TOPIC = 255,
    WMX_MAX_URL = 8 << 10,
    WMX_MAX_HEADER = 64 << 10,
    WMX_MAX_PIECE = 1 << 20,
    WMX_MAX_OPEN = 64 /* requests and subscriptions at a time */
};

/* WMX_EXPORT("name") before a function has the module export it. */
#define WMX_EXPORT(name) __attribute__((export_name(name)))
#define WMX_IMPORT(name) __attribute__((import_module("wasmatrix"), import_name(name)))

/* WMX_ON_MESSAGE before a function () -> int has messages pushed to it. */
#define WMX_ON_MESSAGE WMX_EXPORT("wasmatrix_on_message")

/* ---- The host's functions ---- */

/* Invocations of bytes: input in pieces, and what is appended to the output. */
WMX_IMPORT("input_len") int wmx_input_len(void);
WMX_IMPORT("input_read") int wmx_input_read(wmx_size offset, void *to, wmx_size size);
WMX_IMPORT("output_write") int wmx_output_write(const void *from, wmx_size size);

WMX_IMPORT("abi_version") int wmx_abi_version(void); /* 2 or more has all of this */

/* Of the last result, which may not have fitted, from offset on; how much of it. */
WMX_IMPORT("result_read") int wmx_result_read(wmx_size offset, void *to, wmx_size size);
/* What there is to say of the last error; how long all of it is. */
WMX_IMPORT("error_read") int wmx_error_read(void *to, wmx_size size);

/* kv. revision may be 0; where it is not, it becomes the entry's. */
WMX_IMPORT("kv_get")
int wmx_kv_get_n(const char *cap, wmx_size cap_len, const void *key, wmx_size key_len, void *buf, wmx_size buf_len,
                 wmx_u64 *revision);
WMX_IMPORT("kv_set")
int wmx_kv_set_n(const char *cap, wmx_size cap_len, const void *key, wmx_size key_len, const void *value,
                 wmx_size value_len, wmx_i64 ttl_ms, wmx_u64 *revision);
WMX_IMPORT("kv_cas")
int wmx_kv_cas_n(const char *cap, wmx_size cap_len, const void *key, wmx_size key_len, wmx_u64 expect,
                 const void *value, wmx_size value_len, wmx_i64 ttl_ms, wmx_u64 *revision);
WMX_IMPORT("kv_delete") int wmx_kv_delete_n(const char *cap, wmx_size cap_len, const void *key, wmx_size key_len);
WMX_IMPORT("kv_list")
int wmx_kv_list_n(const char *cap, wmx_size cap_len, const void *prefix, wmx_size prefix_len, const void *after,
                  wmx_size after_len, wmx_size limit, void *buf, wmx_size buf_len);

/* http. */
WMX_IMPORT("http_open")
int wmx_http_open_n(const char *cap, wmx_size cap_len, const char *method, wmx_size method_len, const char *url,
                    wmx_size url_len, const char *header, wmx_size header_len, wmx_i64 timeout_ms);
WMX_IMPORT("http_write") int wmx_http_write(int handle, const void *piece, wmx_size size);
WMX_IMPORT("http_send") int wmx_http_send(int handle);
WMX_IMPORT("http_header") int wmx_http_header(int handle, void *buf, wmx_size buf_len);
WMX_IMPORT("http_read") int wmx_http_read(int handle, void *buf, wmx_size buf_len);
WMX_IMPORT("http_close") int wmx_http_close(int handle);

/* messaging. */
WMX_IMPORT("msg_publish")
int wmx_msg_publish_n(const char *cap, wmx_size cap_len, const char *topic, wmx_size topic_len, const void *data,
                      wmx_size data_len);
WMX_IMPORT("msg_subscribe")
int wmx_msg_subscribe_n(const char *cap, wmx_size cap_len, const char *topic, wmx_size topic_len, const char *group,
                        wmx_size group_len, int mode);
WMX_IMPORT("msg_receive") int wmx_msg_receive(int handle, wmx_i64 timeout_ms, void *buf, wmx_size buf_len);
WMX_IMPORT("msg_unsubscribe") int wmx_msg_unsubscribe(int handle);

/* ---- What most guests want of them ---- */

static inline wmx_size wmx_strlen(const char *s) {
    wmx_size n = 0;
    while (s[n]) n++;
    return n;
}

/* Reads up to size bytes of the input; how many, or an error. */
static inline int wmx_input(void *to, wmx_size size) { return wmx_input_read(0, to, size); }

/* Appends a string to the output. */
static inline int wmx_print(const char *s) { return wmx_output_write(s, wmx_strlen(s)); }

/* Appends a number to the output, in decimal. */
static inline int wmx_print_u64(wmx_u64 n) {
    char digits[20];
    wmx_size at = sizeof digits;
    do digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    return wmx_output_write(digits + at, (wmx_size)sizeof digits - at);
}

/* The value of a key: its length, of which as much is in buf as fits, or an error.
 * With -WMX_E_NOT_FOUND *revision becomes 0, which wmx_kv_cas expects of a new key. */
static inline int wmx_kv_get(const char *cap, const char *key, void *buf, wmx_size size, wmx_u64 *revision) {
    return wmx_kv_get_n(cap, wmx_strlen(cap), key, wmx_strlen(key), buf, size, revision);
}

/* Sets a value, for ever. */
static inline int wmx_kv_set(const char *cap, const char *key, const void *value, wmx_size size) {
    return wmx_kv_set_n(cap, wmx_strlen(cap), key, wmx_strlen(key), value, size, 0, 0);
}

/* Sets a value if *revision is that of the entry, 0 for none, and updates
 * *revision; or -WMX_E_CONFLICT, and *revision is the one that there is. */
static inline int wmx_kv_cas(const char *cap, const char *key, const void *value, wmx_size size, wmx_u64 *revision) {
    return wmx_kv_cas_n(cap, wmx_strlen(cap), key, wmx_strlen(key), *revision, value, size, 0, revision);
}

/* 1 where there was such a key, 0 where there was none. */
static inline int wmx_kv_delete(const char *cap, const char *key) {
    return wmx_kv_delete_n(cap, wmx_strlen(cap), key, wmx_strlen(key));
}

/* Makes a request without a body, and waits for the response. The status, and the
 * handle to read it by and to close; or an error, and nothing is open. */
static inline int wmx_http_get(const char *cap, const char *url, int *handle) {
    int status, h = wmx_http_open_n(cap, wmx_strlen(cap), "GET", 3, url, wmx_strlen(url), "", 0, 0);
    if (h < 0) return h;
    status = wmx_http_send(h);
    if (status < 0) wmx_http_close(h);
    else *handle = h;
    return status;
}

static inline int wmx_msg_publish(const char *cap, const char *topic, const void *data, wmx_size size) {
    return wmx_msg_publish_n(cap, wmx_strlen(cap), topic, wmx_strlen(topic), data, size);
}

enum { WMX_PULL = 0, WMX_PUSH = 1 };

/* Subscribes to a topic, as one of a group if that is not "": the handle. */
static inline int wmx_msg_subscribe(const char *cap, const char *topic, const char *group, int mode) {
    return wmx_msg_subscribe_n(cap, wmx_strlen(cap), topic, wmx_strlen(topic), group, wmx_strlen(group), mode);
}

/* A message within a buffer: what wmx_msg_receive and the input of a push are. */
typedef struct {
    int handle;          /* of the subscription */
    unsigned dropped;    /* messages that were lost before it */
    const char *topic;   /* does not end with a zero */
    wmx_size topic_len;
    const char *data;
    wmx_size data_len;
} wmx_message;

static inline unsigned wmx_u32_at(const void *p) {
    const unsigned char *b = (const unsigned char *)p;
    return b[0] | (unsigned)b[1] << 8 | (unsigned)b[2] << 16 | (unsigned)b[3] << 24;
}

/* Finds the parts of a message of size bytes: 0, or -WMX_E_INVALID. */
static inline int wmx_message_parse(const void *buf, wmx_size size, wmx_message *m) {
    const char *b = (const char *)buf;
    if (size < 12 || wmx_u32_at(b + 8) > size - 12) return -WMX_E_INVALID;
    m->handle = (int)wmx_u32_at(b);
    m->dropped = wmx_u32_at(b + 4);
    m->topic_len = wmx_u32_at(b + 8);
    m->topic = b + 12;
    m->data = m->topic + m->topic_len;
    m->data_len = size - 12 - m->topic_len;
    return 0;
}

#ifdef __cplusplus
}
#endif
#endif
