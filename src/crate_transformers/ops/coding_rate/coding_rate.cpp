// Coding rates of many small token sets on a CPU, in float32:
//
//   1/2 logdet(I + a W^T W) = 1/2 sum_j log d_j,   with  I + a W^T W = L diag(d) L^T,
//
// the tokens (rows of W) as they are or scaled to unit length. One thread takes one set: its Gram matrix and factor
// stay in the first caches, where a batched factorisation reads and writes memory for each of them.
//
// Shapes: n tokens, p features, P features in whole vectors.

#include "vectors.h"

namespace {

const int64_t MOST_FEATURES = 128;

// (n, p) with rows `stride` apart to (n, P); unit: each token to length one, a zero token stays zero.
void read_tokens(const float *from, int64_t stride, int64_t n, int64_t p, bool unit, float *to) {
    const int64_t P = whole_vectors(p);
    for (int64_t i = 0; i < n; i++, to += P) {
        std::memcpy(to, from + i * stride, p * sizeof(float));
        std::memset(to + p, 0, (P - p) * sizeof(float));
        if (!unit) continue;
        vec squares = {};
        for (int64_t k = 0; k < P; k += LANES) squares += load(to + k) * load(to + k);
        const float length = std::sqrt(sum(squares)), inverse = length == 0 ? 1 : 1 / length;
        for (int64_t k = 0; k < P; k += LANES) store(to + k, load(to + k) * inverse);
    }
}

// sum_j log d_j of I + G (p, p), rows P apart, of which the upper half is read and overwritten. Exactly, each d_j is at
// least 1; false if rounding, a part of the diagonal that it is taken from, may have eaten it.
bool log_determinant(float *matrix, int64_t p, int64_t P, double *result) {
    const float rounding = 1e-5f;
    float diagonal[MOST_FEATURES];
    *result = 0;
    for (int64_t j = 0; j < p; j++) diagonal[j] = matrix[j * P + j];
    for (int64_t j = 0; j < p; j++) {
        const float *pivot = matrix + j * P;
        if (!(pivot[j] > rounding * diagonal[j] && std::isfinite(pivot[j]))) return false;
        *result += std::log(double(pivot[j]));
        const float inverse = 1 / pivot[j];
        for (int64_t i = j + 1; i < p; i++) {
            const float factor = pivot[i] * inverse;
            float *row = matrix + i * P;
            for (int64_t k = i / LANES * LANES; k < P; k += LANES)
                store(row + k, load(row + k) - load(pivot + k) * factor);
        }
    }
    return true;
}

}  // namespace

extern "C" {

// w (batch, heads, n, p), strides in floats, the last one 1; p <= MOST_FEATURES; out (batch, heads). Returns 0 where
// float32 is too narrow for a matrix.
int half_logdet_gram(const float *w, int64_t batch, int64_t heads, int64_t n, int64_t p, int64_t w_b, int64_t w_k,
                     int64_t w_n, float scale, int unit, int threads, float *out) {
    const int64_t P = whole_vectors(p), rows = p + MOST_ROWS;  // what blocks of rows may touch
    const int64_t floats = rows * P + n * P + MOST_ROWS;
    return in_threads(batch * heads, floats, threads, [&](int64_t index, float *scratch) {
        float *gram = scratch, *tokens = gram + rows * P;
        std::memset(gram, 0, floats * sizeof(float));
        read_tokens(w + index / heads * w_b + index % heads * w_k, w_n, n, p, unit, tokens);
        add_product(gram, tokens, 1, P, tokens, P, p, n, P);
        for (int64_t i = 0; i < p; i++) {
            for (int64_t k = i * P; k < (i + 1) * P; k += LANES) store(gram + k, load(gram + k) * scale);
            gram[i * P + i] += 1;
        }
        double log_det;
        const bool good = log_determinant(gram, p, P, &log_det);
        out[index] = float(log_det / 2);
        return good;
    });
}

}
