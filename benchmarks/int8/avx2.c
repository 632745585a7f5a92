/* Makes a processor with AVX-512 and AMX look like one with AVX2 alone, to every library of a process.

   ONEDNN_MAX_CPU_ISA does this to torch, but OpenVINO ignores it. Here every CPUID instruction faults (Linux, x86-64,
   processors with CPUID faulting; /proc/cpuinfo lists cpuid_fault), and a handler answers without the bits.

       cc -O1 -shared -fPIC -o avx2.so benchmarks/int8/avx2.c
       LD_PRELOAD=$PWD/avx2.so python -m benchmarks.int8.trunk

   With KEEP_AVX_VNNI=1 the VNNI instructions of AVX2 stay, as laptops since 2021 have them. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <ucontext.h>
#include <asm/prctl.h>
#ifndef ARCH_SET_CPUID
#define ARCH_SET_CPUID 0x1012
#endif
static int keep_vnni;
static void handler(int sig, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  unsigned char *ip = (unsigned char *)u->uc_mcontext.gregs[REG_RIP];
  if (ip[0] != 0x0f || ip[1] != 0xa2) { signal(SIGSEGV, SIG_DFL); return; }
  unsigned leaf = u->uc_mcontext.gregs[REG_RAX], sub = u->uc_mcontext.gregs[REG_RCX], a, b, c, d;
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
  __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(sub));
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
  if (leaf == 7 && sub == 0) { /* AVX-512, AMX, GFNI and the like */
    b &= ~((1u<<16)|(1u<<17)|(1u<<21)|(1u<<26)|(1u<<27)|(1u<<28)|(1u<<30)|(1u<<31));
    c &= ~((1u<<1)|(1u<<6)|(1u<<11)|(1u<<12)|(1u<<14));
    d &= ~((1u<<2)|(1u<<3)|(1u<<8)|(1u<<22)|(1u<<23)|(1u<<24)|(1u<<25));
  }
  if (leaf == 7 && sub == 1) { /* AVX512-BF16, AMX-FP16, AVX-VNNI */
    a &= ~(1u<<5); a &= ~(1u<<21); if (!keep_vnni) a &= ~(1u<<4); d=0; c=0;b=0; }
  u->uc_mcontext.gregs[REG_RAX] = a; u->uc_mcontext.gregs[REG_RBX] = b; u->uc_mcontext.gregs[REG_RCX] = c; u->uc_mcontext.gregs[REG_RDX] = d;
  u->uc_mcontext.gregs[REG_RIP] += 2;
}
__attribute__((constructor(101))) static void start(void) {
  keep_vnni = getenv("KEEP_AVX_VNNI") != NULL;
  struct sigaction s; memset(&s, 0, sizeof s); s.sa_sigaction = handler; s.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &s, NULL);
  if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) { perror("this processor or kernel has no CPUID faulting"); exit(1); }
}
