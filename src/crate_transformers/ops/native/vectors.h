// Products of small float matrices in registers, exponentials, threads: what the kernels of the operators are made of.
//
// A block of up to VECTORS vectors of columns and `rows_of` rows is summed in registers; LANES floats make a vector.
// Loops over them are unrolled, so that each accumulator is a register.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define VECTORS 4
#elif defined(__AVX__)
#define LANES 8
#define VECTORS 2
#else
#define LANES 4
#define VECTORS 4
#endif
#define MOST_ROWS 8
#define INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

namespace {

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec splat(float x) { return x - vec{}; }
INLINE vec load(const float *at) { return *(const vec *)at; }
INLINE void store(float *at, vec x) { *(vec *)at = x; }
INLINE vec keep(vec x, ivec mask) { return (vec)((ivec)x & mask); }
INLINE int64_t whole_vectors(int64_t p) { return (p + LANES - 1) / LANES * LANES; }

INLINE ivec lanes_from(int64_t first) {
    ivec lanes;
    UNROLL for (int l = 0; l < LANES; l++) lanes[l] = int32_t(first) + l;
    return lanes;
}

// What lies H lanes off the diagonal changes places: one stage of a transpose.
template <int H, size_t... L>
INLINE void exchange(vec &a, vec &b, std::index_sequence<L...>) {
    const vec low = __builtin_shufflevector(a, b, (int(L) & H ? LANES + int(L) - H : int(L))...);
    b = __builtin_shufflevector(a, b, (int(L) & H ? LANES + int(L) : int(L) + H)...);
    a = low;
}

template <int H = LANES / 2>
INLINE void transpose(vec (&block)[LANES]) {
    UNROLL for (int r = 0; r < LANES; r++)
        if (!(r & H)) exchange<H>(block[r], block[r + H], std::make_index_sequence<LANES>{});
    if constexpr (H > 1) transpose<H / 2>(block);
}

// (count, P) with rows `width` apart to (P, count), both in whole vectors.
INLINE void transpose_tile(const float *rows, int64_t width, int64_t P, float *columns, int64_t count) {
    for (int64_t k = 0; k < P; k += LANES)
        for (int64_t i = 0; i < count; i += LANES) {
            vec block[LANES];
            UNROLL for (int r = 0; r < LANES; r++) block[r] = load(rows + (i + r) * width + k);
            transpose(block);
            UNROLL for (int r = 0; r < LANES; r++) store(columns + (k + r) * count + i, block[r]);
        }
}

template <int H = LANES / 2>
INLINE float sum(vec x) {
    vec other = x;
    exchange<H>(x, other, std::make_index_sequence<LANES>{});
    if constexpr (H > 1) return sum<H / 2>(x + other);
    return x[0] + other[0];
}

// exp(x) for x <= 0, give or take rounding: 2^n e^f with n whole and |f| <= ln 2 / 2; 0 below -87. The polynomial is
// the best of its degree with e^0 = 1, to 9e-8 of e^f.
INLINE vec exponential(vec x) {
    const vec shifted = x * 1.44269504f + 12582912.f;  // 1.5 * 2^23: its last bits are n
    const vec f = x - (shifted - 12582912.f) * 0.693147181f;
    vec p = f * 8.290288970e-3f + 4.189798236e-2f;
    p = p * f + 1.666763723e-1f;
    p = p * f + 4.999914765e-1f;
    p = p * f + 9.999997020e-1f;
    p = p * f + 1.f;
    const vec scaled = (vec)((ivec)p + ((ivec)shifted << 23));  // n to p's exponent
    return x < splat(-87.f) ? vec{} : scaled;
}

template <int N>
constexpr int rows_of = N == VECTORS ? 6 : MOST_ROWS;  // N vectors of columns leave registers for so many

// acc (R, N vectors) += A B over `terms`; A at a[r * row + k * term], rows of B at b[k * width].
template <int R, int N>
INLINE void multiply(vec (&acc)[R][N], const float *a, int64_t row, int64_t term, const float *b, int64_t width,
                     int64_t terms) {
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < terms; k++, a += term, b += width) {
        vec right[N];
        UNROLL for (int c = 0; c < N; c++) right[c] = load(b + c * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            const vec left = splat(a[r * row]);
            UNROLL for (int c = 0; c < N; c++) acc[r][c] += left * right[c];
        }
    }
}

// Calls body(a constant N, the first vector) for all of `count` vectors.
template <class Body>
INLINE void by_vectors(int64_t count, Body body) {
    int64_t first = 0;
    for (; first + VECTORS <= count; first += VECTORS) body(std::integral_constant<int, VECTORS>{}, first);
    if (count - first == 1) body(std::integral_constant<int, 1>{}, first);
    if constexpr (VECTORS > 2) {
        if (count - first == 2) body(std::integral_constant<int, 2>{}, first);
        if (count - first == 3) body(std::integral_constant<int, 3>{}, first);
    }
}

// Calls put(place, a vector of A B, its row, its first column) for A (rows, terms) and B (terms, columns): place is the
// vector's in `out`, whose rows are `pitch` apart. Rows are taken in whole blocks, columns in whole vectors.
template <class Put>
INLINE void product(float *out, int64_t pitch, const float *a, int64_t row, int64_t term, const float *b,
                    int64_t width, int64_t rows, int64_t terms, int64_t columns, Put put) {
    by_vectors(whole_vectors(columns) / LANES, [&](auto vectors, int64_t first) {
        constexpr int N = decltype(vectors)::value, R = rows_of<N>;
        for (int64_t i = 0; i < rows; i += R) {
            vec acc[R][N] = {};
            multiply(acc, a + i * row, row, term, b + first * LANES, width, terms);
            float *corner = out + i * pitch + first * LANES;
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int c = 0; c < N; c++)
                    put(corner + r * pitch + c * LANES, acc[r][c], i + r, (first + c) * LANES);
        }
    });
}

// out (rows, P) += A (rows, terms) B (terms, P), as above. Read after the product, out does not hold it up.
INLINE void add_product(float *out, const float *a, int64_t row, int64_t term, const float *b, int64_t width,
                        int64_t rows, int64_t terms, int64_t P) {
    product(out, P, a, row, term, b, width, rows, terms, P,
            [](float *place, vec sum, int64_t, int64_t) { store(place, load(place) + sum); });
}

// Within its life, numbers too small for a float are zero: they cost a hundred cycles each.
struct FlushToZero {
#if defined(__SSE__)
    const unsigned before = _mm_getcsr();
    FlushToZero() { _mm_setcsr(before | 0x8040); }
    ~FlushToZero() { _mm_setcsr(before); }
#else
    FlushToZero() {}
#endif
};

// work(index, scratch of `floats`) for each of `count`, in threads; whether all went well.
template <class Work>
bool in_threads(int64_t count, int64_t floats, int threads, Work work) {
    bool good = true;
#pragma omp parallel num_threads(threads) reduction(&& : good)
    {
        const FlushToZero scope;
        float *scratch = (float *)std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
#pragma omp for schedule(dynamic)
        for (int64_t index = 0; index < count; index++) good = scratch && work(index, scratch) && good;
        std::free(scratch);
    }
    return good;
}

}  // namespace
