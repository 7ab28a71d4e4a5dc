// JSON: a tree is written as text and parsed again, by recursive descent with allocation.
#include <stdlib.h>
#include <string.h>
#include "report.h"

struct value { char kind; struct value *next, *child; long number; char *string; };

static char *out, *in;

static struct value *new_value(char kind) {
  struct value *v = calloc(1, sizeof *v);
  v->kind = kind;
  return v;
}

static void free_value(struct value *v) {
  while (v) {
    struct value *next = v->next;
    free_value(v->child);
    free(v->string);
    free(v);
    v = next;
  }
}

static struct value *grow(int depth) {
  static const char kinds[] = "[{ns";
  struct value *v = new_value(depth ? kinds[next() % 2] : kinds[2 + next() % 2]);
  if (v->kind == 's') {
    int n = next() % 24;
    v->string = calloc(1, n + 1);
    for (int i = 0; i < n; i++) v->string[i] = next() % 9 ? 'a' + next() % 26 : '"';
  }
  v->number = (long)(next() % 2000000) - 1000000;
  for (int i = 0; depth && i < 8; i++) {
    struct value *c = grow(depth - 1);
    c->next = v->child;
    v->child = c;
  }
  return v;
}

static void put_string(const char *s) {
  *out++ = '"';
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') *out++ = '\\';
    *out++ = *s;
  }
  *out++ = '"';
}

static void put_number(long n) {
  char digits[24];
  int i = 0;
  unsigned long u = n < 0 ? -(unsigned long)n : n;
  do digits[i++] = '0' + u % 10; while (u /= 10);
  if (n < 0) *out++ = '-';
  while (i) *out++ = digits[--i];
}

static void encode(const struct value *v) {
  switch (v->kind) {
  case 'n': put_number(v->number); break;
  case 's': put_string(v->string); break;
  default:
    *out++ = v->kind;
    int key = 0;
    for (struct value *c = v->child; c; c = c->next) {
      if (v->kind == '{') {
        *out++ = '"'; *out++ = 'k'; put_number(key++); *out++ = '"'; *out++ = ':';
      }
      encode(c);
      if (c->next) *out++ = ',';
    }
    *out++ = v->kind == '[' ? ']' : '}';
  }
}

static char *decode_string(void) {
  char *end = ++in;
  while (*end != '"') end += 1 + (*end == '\\');
  char *s = malloc(end - in + 1), *p = s;
  for (; in < end; in++) {
    if (*in == '\\') in++;
    *p++ = *in;
  }
  *p = 0;
  in++;
  return s;
}

static struct value *decode(void) {
  struct value *v;
  switch (*in) {
  case '"':
    v = new_value('s');
    v->string = decode_string();
    return v;
  case '[': case '{': {
    v = new_value(*in);
    struct value **last = &v->child;
    char close = *in++ == '[' ? ']' : '}';
    while (*in != close) {
      if (v->kind == '{') {
        free(decode_string());
        in++;
      }
      *last = decode();
      last = &(*last)->next;
      if (*in == ',') in++;
    }
    in++;
    return v;
  }
  default:
    v = new_value('n');
    v->number = strtol(in, &in, 10);
    return v;
  }
}

static uint64_t digest(const struct value *v) {
  uint64_t h = v->kind + v->number * (v->kind == 'n');
  for (const char *s = v->string; s && *s; s++) h = h * 31 + *s;
  for (struct value *c = v->child; c; c = c->next) h = h * 1000003 + digest(c);
  return h;
}

int main(void) {
  char *text = malloc(4 << 20);
  struct value *v = grow(5);
  uint64_t sum = 0;
  for (int round = 0; round < 60; round++) {
    out = text;
    encode(v);
    *out = 0;
    free_value(v);
    in = text;
    v = decode();
    sum = sum * 31 + digest(v) + (out - text);
  }
  report(sum);
}
