// A function of bytes: text in, JSON out. It reads its input in pieces, so that
// a page of memory is enough for any length. wordcount.wasm is built from this file
// by the recipe in ../README.md.

#define HOST(name) __attribute__((import_module("wasmatrix"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

HOST("input_read") int input_read(unsigned offset, void *to, unsigned size);
HOST("output_write") int output_write(const void *from, unsigned size);

enum status { OK, NOT_UTF8, HOST_ERROR };

static char answer[256];
static unsigned answered;

static void put(const char *text) {
    while (*text) answer[answered++] = *text++;
}

static void put_number(const char *name, unsigned n) {
    char digits[10];
    int i = 0;
    put(name);
    do digits[i++] = '0' + n % 10; while (n /= 10);
    while (i) answer[answered++] = digits[--i];
}

static enum status finish(enum status status) {
    put("}\n");
    return output_write(answer, answered) < 0 ? HOST_ERROR : status;
}

// count answers how many bytes, characters, words and lines its input has, or
// that it is not UTF-8, and where.
EXPORT("count") enum status count(void) {
    static unsigned char piece[4096];
    unsigned bytes = 0, characters = 0, words = 0, lines = 0;
    unsigned within = 0;         // bytes that the character still has
    unsigned least = 0, most = 0; // what the next of them may be
    int n, in_word = 0;

    answered = 0; // what an earlier call left is still here
    while ((n = input_read(bytes, piece, sizeof piece)) > 0) {
        for (int i = 0; i < n; i++, bytes++) {
            unsigned c = piece[i];
            if (within) {
                if (c < least || c > most) goto bad;
                within--;
                least = 0x80, most = 0xbf;
                continue;
            }
            characters++;
            if (c >= 0x80) { // Unicode, table 3-7: neither longer than need be, nor surrogates
                if (c < 0xc2 || c > 0xf4) goto bad;
                within = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
                least = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
                most = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
            }
            lines += c == '\n';
            int space = c == ' ' || c >= '\t' && c <= '\r';
            words += !space && !in_word;
            in_word = !space;
        }
    }
    if (n < 0) return HOST_ERROR;
    if (within) goto bad;
    put_number("{\"bytes\":", bytes);
    put_number(",\"characters\":", characters);
    put_number(",\"words\":", words);
    put_number(",\"lines\":", lines);
    return finish(OK);
bad:
    put_number("{\"error\":\"not UTF-8\",\"offset\":", bytes);
    return finish(NOT_UTF8);
}
