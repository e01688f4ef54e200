/* old_glibc.h - lets the addon, built on a new Linux, run on one as old as node itself runs on: build-native.sh includes it before
   anything else. The GNU C library gave some functions new versions when it moved them (2.32 to 2.34), and the linker takes the newest
   that it sees. The old ones are the same code. */
#define _GNU_SOURCE 1
#include <features.h>
#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))
#  include <sys/stat.h>
#  include <sys/syscall.h>
#  include <unistd.h>
#  if defined(__x86_64__)
#    define FIRST "GLIBC_2.2.5"
#  else
#    define FIRST "GLIBC_2.17"
#  endif
__asm__(".symver pthread_create, pthread_create@" FIRST);
__asm__(".symver pthread_join, pthread_join@" FIRST);
__asm__(".symver pthread_sigmask, pthread_sigmask@" FIRST);
#  undef FIRST

/* There was no function of this name before 2.33. On these two machines the kernel's struct is the library's. */
static __inline__ int old_fstat(int file, struct stat *to) { return (int)syscall(SYS_fstat, file, to); }
#  define fstat(file, to) old_fstat(file, to)
#endif
