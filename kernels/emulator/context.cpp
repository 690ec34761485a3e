#include "context.h"

namespace emulator {

#if defined(EYEKERN_PORTABLE_SWITCH)

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = bytes;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

#else

// swapcontext saves the signal mask, a system call per switch, and a kernel makes a hundred thousand of them. This one
// keeps what the System V ABI asks a function to keep.
extern "C" void eyekern_switch(void** save, void* to);
asm(R"(
.text
.globl eyekern_switch
.hidden eyekern_switch
.type eyekern_switch,@function
eyekern_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size eyekern_switch,.-eyekern_switch
)");

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + bytes);
    *--top = nullptr; // the return address that `entry` never uses; keeps the ABI's alignment
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    context.stack_pointer = top;
}

void switch_context(Context& from, Context& to) { eyekern_switch(&from.stack_pointer, to.stack_pointer); }

#endif

} // namespace emulator
