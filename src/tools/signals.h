/* signals.h - a command ends within a tenth of a second of Ctrl-C (SIGINT), SIGTERM or SIGHUP, whatever it is doing.

   A command that only reads leaves at once. A command that writes a store gets the time to end its transaction; when that is
   not enough it leaves all the same, which loses no more than a power failure would: SQLite takes back what was not
   committed. Windows has no timer of that kind: there a writer ends at its next look at kalm__interrupted. */
#ifndef KALM_SIGNALS_H
#define KALM_SIGNALS_H

#include "files.h"
#include "messages.h"

enum { CMD_LEAVE_AT_ONCE, CMD_END_IN_ORDER };

static int cmd__ending;
static char cmd__farewell[64];         /* made before the signal: its handler may not call printf */
static size_t cmd__farewell_size;

KALM__FN void cmd__leave(int number)
{
    ssize_t written;
#if !defined(_WIN32)
    kalm__remove_unfinished();
#endif
    written = write(2, cmd__farewell, (unsigned)cmd__farewell_size);
    (void)number, (void)written;
    _exit(EXIT_INTERRUPTED);
}

KALM__FN void cmd__on_signal(int number)
{
    kalm__interrupted = number;
    if (cmd__ending == CMD_LEAVE_AT_ONCE) cmd__leave(number);
#if !defined(_WIN32)
    kalm__set_alarm();
#endif
}

KALM__FN void cmd_catch_signals(int ending)
{
    cmd__ending = ending;
    cmd__farewell_size = (size_t)snprintf(cmd__farewell, sizeof cmd__farewell, "%s%s: interrupted\n",
                                          kalm__terminal_width() ? "\r\033[K" : "", cmd_name);
    kalm__catch_signals();             /* for SIGXFSZ; the others are replaced */
#if defined(_WIN32)
    signal(SIGINT, cmd__on_signal);
    signal(SIGTERM, cmd__on_signal);
#else
    {
        struct sigaction a;
        memset(&a, 0, sizeof a);
        sigemptyset(&a.sa_mask);
        a.sa_handler = cmd__leave;
        sigaction(SIGALRM, &a, NULL);
        a.sa_handler = cmd__on_signal;
        sigaction(SIGINT, &a, NULL);
        sigaction(SIGTERM, &a, NULL);
        sigaction(SIGHUP, &a, NULL);
    }
#endif
}

#endif
