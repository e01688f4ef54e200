/* secret.h - a key that nobody else can know, from the randomness of the system: for siphash.h. Without it the command ends. */
#ifndef KALM_SECRET_H
#define KALM_SECRET_H

#include "messages.h"
#if defined(__APPLE__)
#  include <sys/random.h>
#endif

/* Where the C library hands it out without a file: folders that commands are shut up in may have no /dev. */
#if defined(_WIN32) || (defined(__GLIBC__) && __GLIBC__ * 100 + __GLIBC_MINOR__ < 225) || (defined(__ANDROID_API__) && __ANDROID_API__ < 28)
#  define CMD__GETENTROPY(key) (-1)
#else
#  define CMD__GETENTROPY(key) getentropy(key, 16)
#endif

KALM__FN int cmd__random(uint64_t key[2])
{
#if defined(_WIN32)
    unsigned part[4];
    int i;
    for (i = 0; i < 4; i++)
        if (rand_s(&part[i])) return 0;
    memcpy(key, part, sizeof part);
    return 1;
#else
    FILE *f;
    size_t n = 0;
    if (!CMD__GETENTROPY(key)) return 1;
    f = fopen("/dev/urandom", "rb");
    if (f) n = fread(key, 1, 16, f), fclose(f);
    return n == 16;
#endif
}

KALM__FN void cmd_secret(uint64_t key[2])
{
    if (!cmd__random(key)) die("the system gives no random numbers, and with others strangers could make texts that pass for one another");
}

#endif
