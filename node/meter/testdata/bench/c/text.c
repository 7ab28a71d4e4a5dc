// Text: words are made, split, searched, joined and counted in a hash table.
#include <stdlib.h>
#include <string.h>
#include "report.h"

enum { length = 1 << 20, buckets = 1 << 12 };
static char text[length + 1], joined[2 * length];
struct entry { struct entry *next; int count; char word[]; };
static struct entry *table[buckets];

static void count(const char *word, size_t n) {
  uint32_t h = 2166136261u;
  for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)word[i]) * 16777619u;
  struct entry **e = &table[h % buckets];
  while (*e && (strncmp((*e)->word, word, n) || (*e)->word[n])) e = &(*e)->next;
  if (!*e) {
    *e = calloc(1, sizeof **e + n + 1);
    memcpy((*e)->word, word, n);
  }
  (*e)->count++;
}

int main(void) {
  uint64_t sum = 0;
  for (int i = 0; i < length; i++) text[i] = next() % 5 ? 'a' + next() % 4 : ' ';
  for (int round = 0; round < 24; round++) {
    char *out = joined;
    for (char *word = text; *word;) {
      size_t n = strcspn(word, " ");
      if (n) count(word, n);
      memcpy(out, word, n);
      out += n;
      *out++ = n & 1 ? ',' : ';';
      word += n + (word[n] == ' ');
    }
    *out = 0;
    for (char *p = joined; (p = strstr(p, "abc")); p++) sum += p - joined;
    for (char *p = joined; (p = strchr(p, ';')); p++) sum++;
    text[round * 7] = 'z';
  }
  for (int i = 0; i < buckets; i++)
    for (struct entry *e = table[i]; e; e = e->next) sum = sum * 31 + e->count + strlen(e->word);
  report(sum);
}
