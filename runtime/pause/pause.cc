// skiff-pause: holds a pod's namespaces, as PID 1 of its pid namespace where it has one.
//
// There is one for each pod, so it has no C library: a page of text and a page of stack. Zombies
// are reaped by the kernel, because SIGCHLD is ignored (sigaction(2)); so it never wakes up until
// SIGTERM or SIGINT ends it. PID 1 gets signals only if it handles or blocks them, hence the wait
// on blocked ones.

#include <asm/signal.h>
#include <asm/unistd.h>
#include <linux/prctl.h>

namespace {

long Call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__)
  long result;
  register long r10 asm("r10") = d;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
               : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#else
#error "write this architecture's system call here"
#endif
}

constexpr unsigned long Bit(int signal_number) { return 1UL << (signal_number - 1); }

}  // namespace

extern "C" [[noreturn]] void SkiffPauseMain() {
  struct {
    __sighandler_t handler;
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } ignore{SIG_IGN, 0, nullptr, 0};  // struct sigaction as the kernel has it
  // Executed from a descriptor, it has no name that ps could show.
  Call(__NR_prctl, PR_SET_NAME, reinterpret_cast<long>("skiff-pause"), 0, 0);
  unsigned long wanted = Bit(SIGTERM) | Bit(SIGINT);
  Call(__NR_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&wanted), 0, sizeof wanted);
  Call(__NR_rt_sigaction, SIGCHLD, reinterpret_cast<long>(&ignore), 0, sizeof wanted);
  long signal_number;
  do {
    signal_number =
        Call(__NR_rt_sigtimedwait, reinterpret_cast<long>(&wanted), 0, 0, sizeof wanted);
  } while (signal_number < 0);  // EINTR: stopped and continued
  for (;;) Call(__NR_exit_group, 0, 0, 0, 0);
}

#if defined(__x86_64__)
asm(".globl _start\n_start:\n  xor %ebp, %ebp\n  and $-16, %rsp\n  call SkiffPauseMain\n");
#elif defined(__aarch64__)
asm(".globl _start\n_start:\n  mov x29, #0\n  bl SkiffPauseMain\n");
#endif
