/* The floating-point mode of the calling thread: what it does with subnormal numbers. */
#ifndef GATED_FLOAT_MODE_H
#define GATED_FLOAT_MODE_H

#include <stdint.h>

#if defined(__SSE2__)

#include <xmmintrin.h>

enum { FLUSH_SUBNORMALS = 0x8040 }; /* MXCSR: flush to zero, denormals are zero */

static inline uint64_t float_mode(void)
{
    return _mm_getcsr();
}

static inline void set_float_mode(uint64_t mode)
{
    _mm_setcsr((unsigned)mode);
}

#elif defined(__aarch64__)

enum { FLUSH_SUBNORMALS = 1 << 24 }; /* FPCR.FZ: both */

static inline uint64_t float_mode(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}

static inline void set_float_mode(uint64_t mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
}

#else

enum { FLUSH_SUBNORMALS = 0 };

static inline uint64_t float_mode(void)
{
    return 0;
}

static inline void set_float_mode(uint64_t mode)
{
    (void)mode;
}

#endif

#endif
