// Binary trees: recursion and the allocator.
#include <stdlib.h>
#include "report.h"

struct tree { struct tree *left, *right; };

static struct tree *grow(int depth) {
  struct tree *t = malloc(sizeof *t);
  t->left = depth ? grow(depth - 1) : 0;
  t->right = depth ? grow(depth - 1) : 0;
  return t;
}

static int count(const struct tree *t) { return t ? 1 + count(t->left) + count(t->right) : 0; }

static void fell(struct tree *t) {
  if (!t) return;
  fell(t->left);
  fell(t->right);
  free(t);
}

int main(void) {
  uint64_t sum = 0;
  struct tree *old = grow(16);
  for (int i = 0; i < 500; i++) {
    struct tree *t = grow(14);
    sum += count(t);
    fell(t);
  }
  report(sum + count(old));
}
