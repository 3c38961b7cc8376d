/* floats.c - F32, F16, BF16: single numbers, without blocks. */
#include "format.h"

const pq_format pq_format_f32 = {.name = "F32", .block = 1, .bytes = 4, .members = {{0, 4, 4}}};
const pq_format pq_format_f16 = {.name = "F16", .block = 1, .bytes = 2, .members = {{0, 2, 2}}};
const pq_format pq_format_bf16 = {.name = "BF16", .block = 1, .bytes = 2, .members = {{0, 2, 2}}};
