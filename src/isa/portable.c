/* Any other CPU with GCC or Clang. Without an assumed FMA, so outside the promise of equal bits. */
#define TABLE        portable
#define LANES        4
#define ROWS         2
#define MAX_GROUP    2
#define STREAM_GROUP 2
#define HAS_FLOAT32
#define HAS_BFLOAT16
#define HAS_INT8
#include "../kernels/body.h"
