// CBSA on a CPU, in float32, without a gradient: one head of one sample stays in a core's cache.
//
//   A = softmax(s R W^T),   R' = R + eta A W,   C = softmax(s R' R'^T) R',   out = eps A^T C        (s: the scaling)
//
// Shapes: N tokens, m representatives, p features of a head; n, M, P are these in whole vectors. Rows of scratch are in
// whole blocks, and zero where nothing is.

#include "vectors.h"

namespace {

struct Sizes {
    int64_t N, m, p, n, M, P;

    Sizes(int64_t N, int64_t m, int64_t p)
        : N(N), m(m), p(p), n(whole_vectors(N)), M(whole_vectors(m)), P(whole_vectors(p)) {}
};

INLINE int64_t whole_blocks(int64_t rows) { return rows + MOST_ROWS; }

// Rows of scores to weights over the first `count` columns, of `width` in whole vectors; whether they were finite.
INLINE bool soften(float *scores, int64_t rows, int64_t count, int64_t width) {
    bool finite = true;
    for (int64_t i = 0; i < rows; i++, scores += width) {
        vec high = splat(-INFINITY), total = {};
        for (int64_t j = 0; j < width; j += LANES) {
            const vec x = load(scores + j);
            high = (lanes_from(j) < int32_t(count)) & (x > high) ? x : high;
        }
        float highest = high[0];
        for (int l = 1; l < LANES; l++) highest = high[l] > highest ? high[l] : highest;
        finite = finite && std::isfinite(highest);
        for (int64_t j = 0; j < width; j += LANES) {
            const vec weight = keep(exponential(load(scores + j) - highest), lanes_from(j) < int32_t(count));
            store(scores + j, weight);
            total += weight;
        }
        const vec share = splat(1 / sum(total));
        for (int64_t j = 0; j < width; j += LANES) store(scores + j, load(scores + j) * share);
    }
    return finite;
}

struct Head {
    const Sizes s;
    float *tokens, *turned, *attention, *moved, *moved_turned, *scores, *contracted, *result;

    static int64_t floats(const Sizes &s) {
        const int64_t reps = whole_blocks(s.M);
        return whole_blocks(s.n) * 2 * s.P + s.P * (s.n + s.M) + reps * (s.n + s.M + 2 * s.P);
    }

    Head(const Sizes &s, float *scratch) : s(s) {
        const int64_t reps = whole_blocks(s.M);
        tokens = scratch;
        result = tokens + whole_blocks(s.n) * s.P;
        turned = result + whole_blocks(s.n) * s.P;
        moved_turned = turned + s.P * s.n;
        attention = moved_turned + s.P * s.M;
        scores = attention + reps * s.n;
        moved = scores + reps * s.M;
        contracted = moved + reps * s.P;
    }

    // w: rows `pitch` apart, as those of out; pooled (m, p). Whether all was finite; otherwise out is not written.
    bool run(const float *w, const float *pooled, int64_t pitch, float scale, float eta, float eps, float *out) {
        std::memset(tokens, 0, floats(s) * sizeof(float));
        vec none = {};  // stays 0 where all tokens are finite
        for (int64_t i = 0; i < s.N; i++) {
            std::memcpy(tokens + i * s.P, w + i * pitch, s.p * sizeof(float));
            for (int64_t k = 0; k < s.P; k += LANES) none += load(tokens + i * s.P + k) * 0.f;
        }
        for (int64_t i = 0; i < s.m; i++) std::memcpy(moved + i * s.P, pooled + i * s.p, s.p * sizeof(float));
        const auto scaled = [scale](float *place, vec sum, int64_t, int64_t) { store(place, sum * scale); };
        transpose_tile(tokens, s.P, s.P, turned, s.n);
        product(attention, s.n, moved, s.P, 1, turned, s.n, s.m, s.p, s.N, scaled);
        if (sum(none) != 0 || !soften(attention, s.m, s.N, s.n)) return false;
        product(moved, s.P, attention, s.n, 1, tokens, s.P, s.m, s.N, s.p,
                [eta](float *place, vec sum, int64_t, int64_t) { store(place, load(place) + sum * eta); });
        std::memset(moved + s.m * s.P, 0, (whole_blocks(s.M) - s.m) * s.P * sizeof(float));
        transpose_tile(moved, s.P, s.P, moved_turned, s.M);
        product(scores, s.M, moved, s.P, 1, moved_turned, s.M, s.m, s.p, s.m, scaled);
        if (!soften(scores, s.m, s.m, s.M)) return false;
        product(contracted, s.P, scores, s.M, 1, moved, s.P, s.m, s.m, s.p,
                [eps](float *place, vec sum, int64_t, int64_t) { store(place, sum * eps); });
        product(result, s.P, attention, 1, s.n, contracted, s.P, s.N, s.m, s.p,
                [](float *place, vec sum, int64_t, int64_t) { store(place, sum); });
        for (int64_t i = 0; i < s.N; i++) std::memcpy(out + i * pitch, result + i * s.P, s.p * sizeof(float));
        return true;
    }
};

}  // namespace

extern "C" {

// w, out (B, N, K, p); pooled (B, K, m, p); eta, eps (K). Returns 0 without memory, or where not all is finite.
int cbsa(const float *w, const float *pooled, const float *eta, const float *eps, int64_t B, int64_t N, int64_t K,
         int64_t p, int64_t m, float scale, int threads, float *out) {
    const Sizes size(N, m, p);
    return in_threads(B * K, Head::floats(size), threads, [&](int64_t index, float *scratch) {
        const int64_t k = index % K, first = index / K * N * K * p + k * p;
        return Head(size, scratch).run(w + first, pooled + index * m * p, K * p, scale, eta[k], eps[k], out + first);
    });
}

}
