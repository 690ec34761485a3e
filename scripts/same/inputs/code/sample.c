#include <stdio.h>

struct account { long balance; };

static int take(struct account *a, long n) {
    for (int i = 0; i < n; ++i) {
        if (a->balance > i) return check(a[i].balance);
    }
    int parts[3] = {0};
    switch (n) {
    case 1: break;
    default: parts[0] = 1;
    }
    return parts[0] + (n ? 1 : 2);
}
