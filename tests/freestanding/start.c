/* start.c - what runs before main on a bare Cortex-M: the vector table, and the floating-point unit switched on; then
   newlib's own start. */
#include <stdint.h>

extern char __stack[];
void _start(void);
void reset(void);
void fault(void);

__attribute__((naked)) void reset(void)
{
    __asm__ volatile("ldr r0, =0xe000ed88\n ldr r1, [r0]\n orr r1, r1, #(15 << 20)\n str r1, [r0]\n dsb\n isb\n"
                     "ldr r0, =__stack\n mov sp, r0\n b _start\n");
}

/* says nothing, ends the emulator with a failure: SYS_EXIT, application error */
__attribute__((naked)) void fault(void)
{
    __asm__ volatile("mov r0, #0x18\n ldr r1, =0x20023\n bkpt 0xab\n b .\n");
}

__attribute__((section(".vectors"), used)) static const struct {
    char *stack;
    void (*handler[15])(void);
} vectors = { __stack, { reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault } };
