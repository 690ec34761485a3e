// A thread of control with a stack of its own, and the switch from one to another.
#pragma once
#include <cstddef>

#if !defined(__x86_64__) || defined(EYEKERN_UCONTEXT)
#define EYEKERN_PORTABLE_SWITCH
#include <ucontext.h>
#endif

namespace emulator {

struct Context {
#if defined(EYEKERN_PORTABLE_SWITCH)
    ucontext_t state;
#else
    void* stack_pointer;
#endif
};

// Prepares `context` to run `entry`, which never returns, on `bytes` of stack at `stack`.
void prepare(Context& context, char* stack, size_t bytes, void (*entry)());

// Goes on at `to`; returns when someone switches back to `from`.
void switch_context(Context& from, Context& to);

} // namespace emulator
