/* The same in 256-bit vectors. */
#if !defined(__AVX512VNNI__) || !defined(__AVX512VL__)
#error "avx512_vnni_half.c is being compiled without AVX-512 VNNI and VL"
#endif
#define TABLE        avx512_vnni_half
#define LANES        8
#define ROWS         6
#define MAX_GROUP    5
#define STREAM_GROUP 2
#define CELLS_OF     avx512_half
#define HAS_INT8
#include "../kernels/body.h"
