/* Which kernel tables this CPU can run, and which one it runs. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define ISA(table, level, lanes, needs) extern const gated_kernels gated_kernels_##table;
#include "isa.def"
#undef ISA

#if defined(__x86_64__)
static int cpu_has_sse2(void)
{
    return 1;
}

static int cpu_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int cpu_has_avx512(void)
{
    return cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

static int cpu_has_avx512_vnni(void)
{
    return cpu_has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static int cpu_has_avx512_bf16(void)
{
    return cpu_has_avx512() && __builtin_cpu_supports("avx512bf16");
}
#elif defined(__aarch64__)
static int cpu_has_neon(void)
{
    return 1;
}
#else
static int cpu_has_portable(void)
{
    return 1;
}
#endif

typedef struct {
    const char *level;
    int lanes;
    int (*usable)(void);
    const gated_kernels *kernels;
} isa_row;

static const isa_row rows[] = {
#define ISA(table, level, lanes, needs) {#level, lanes, cpu_has_##needs, &gated_kernels_##table},
#include "isa.def"
#undef ISA
};

/* Filled from `rows` once. */
typedef struct {
    gated_isa_info info;
    gated_tables tables;
} isa_level;

static isa_level levels[GATED_NUM_TABLES];
static int num_levels;

static void add_table(gated_tables *tables, const gated_kernels *kernels)
{
    for (int format = 0; format < GATED_NUM_FORMATS; format++) {
        const gated_kernels **end = tables->of[format];
        while (*end)
            end++;
        if (kernels->cell[format])
            *end = kernels;
    }
}

static void __attribute__((constructor)) list_levels(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    for (int i = 0; i < GATED_NUM_TABLES; i++) {
        const int usable = rows[i].usable();
        if (i == 0 || strcmp(rows[i - 1].level, rows[i].level) != 0)
            levels[num_levels++].info = (gated_isa_info){rows[i].level, rows[i].lanes, usable, rows[i].kernels->exact};
        isa_level *level = &levels[num_levels - 1];
        level->info.lanes = rows[i].lanes;
        if (usable)
            add_table(&level->tables, rows[i].kernels);
    }
}

const gated_isa_info *gated_isa(int index)
{
    return index >= 0 && index < num_levels ? &levels[index].info : NULL;
}

static gated_status find_level(const char *name, const isa_level **found)
{
    for (int i = 0; i < num_levels; i++) {
        if (strcmp(levels[i].info.name, name) != 0)
            continue;
        *found = &levels[i];
        return levels[i].info.usable ? GATED_OK : GATED_UNUSABLE_ISA;
    }
    return GATED_UNKNOWN_ISA;
}

/* The environment is read at each call, so that a test can force one level after another. */
static gated_status choose_level(const isa_level **chosen)
{
    const char *forced = getenv("GATED_C_ISA");
    if (forced && *forced)
        return find_level(forced, chosen);
    for (int i = 0; i < num_levels; i++)
        if (levels[i].info.usable)
            *chosen = &levels[i];
    return GATED_OK;
}

gated_status gated_isa_chosen(const gated_isa_info **isa)
{
    const isa_level *level = NULL;
    gated_status status = choose_level(&level);
    if (status == GATED_OK)
        *isa = &level->info;
    return status;
}

gated_status gated_chosen_tables(const gated_tables **tables)
{
    const isa_level *level = NULL;
    gated_status status = choose_level(&level);
    if (status == GATED_OK)
        *tables = &level->tables;
    return status;
}

gated_status gated_activate(const char *isa, const gated_activation *activation, const float *x, float *y, ptrdiff_t n)
{
    const isa_level *level = NULL;
    gated_status status = find_level(isa, &level);
    if (status == GATED_OK)
        level->tables.of[GATED_FORMAT_float32][0]->activate(activation, x, y, n);
    return status;
}
