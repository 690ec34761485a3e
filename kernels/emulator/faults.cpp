#include "faults.h"
#include "machine.h"
#include <csignal>
#include <cstdlib>

namespace emulator {

#if defined(__SANITIZE_ADDRESS__) || defined(EYEKERN_TSAN)
// sanitizers report faults themselves, with more detail
FaultGuard::FaultGuard() {}
FaultGuard::~FaultGuard() {}
#else

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE};
static struct sigaction previous[3];

static void on_fault(int signal, siginfo_t* info, void*) {
    if (processor && current) {
        // the handler's frame is abandoned together with the faulting thread
        if (signal == SIGFPE) fail("arithmetic fault (an integer divided by zero), after this operation");
        if (processor->in_guard_page(info->si_addr))
            fail("the thread's stack of 60 KiB overflowed, after this operation");
        fail("memory fault at address %p, after this operation", info->si_addr);
    }
    for (int i = 0; i < 3; i++)
        if (SIGNALS[i] == signal) sigaction(signal, &previous[i], nullptr); // and the fault happens again
}

constexpr size_t HANDLER_STACK = 64 * 1024;
static thread_local void* own_stack;
static thread_local stack_t outer_stack;

FaultGuard::FaultGuard() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER; // it may not return, so it must not stay blocked
        for (int i = 0; i < 3; i++) sigaction(SIGNALS[i], &action, &previous[i]);
    });
    stack_t stack = {};
    stack.ss_sp = own_stack = malloc(HANDLER_STACK);
    stack.ss_size = HANDLER_STACK;
    sigaltstack(&stack, &outer_stack);
}

FaultGuard::~FaultGuard() {
    sigaltstack(&outer_stack, nullptr);
    free(own_stack);
}

#endif

} // namespace emulator
