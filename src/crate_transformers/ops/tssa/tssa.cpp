// TSSA on a CPU, in float32. The tokens of one sample stay in a core's cache while they are passed over twice, so W is
// read from memory once a function.
//
//   S_kj = sum_n W_nkj^2,   Pi_nk = softmax_k(t_k sum_j W_nkj^2 / S_kj)                                   memberships
//   m_k = sum_n Pi_nk,   D_kj = 1 + s_kj,   s_kj = sum_n Pi_nk W_nkj^2 / m_k,   H_nkj = - Pi_nk W_nkj / D_kj     step
//
// The backward functions make S and D again. Sums over tokens are taken in double.
//
// Shapes: N tokens, K heads, p features of a head, d = K p. Tensors lie without gaps: W, H (B, N, K, p); Pi (B, N, K).

#include "vectors.h"

#define SIMD _Pragma("omp simd")

namespace {

const double FEWEST_SUM = 1e-24, FEWEST_MASS = 1e-8;

struct Sizes {
    int64_t N, K, p;
    int64_t d() const { return K * p; }
};

// Calls body(w_nk, n, k), rows of p features, for all tokens and heads.
template <class Body>
INLINE void each_head(const float *w, Sizes size, Body body) {
    for (int64_t n = 0; n < size.N; n++)
        for (int64_t k = 0; k < size.K; k++) body(w + (n * size.K + k) * size.p, n, k);
}

// 1 / S (K, p); whether S is bounded below is told by the value 1 / FEWEST_SUM.
void inverse_sums(const float *w, Sizes size, double *inverse) {
    std::memset(inverse, 0, size.d() * sizeof(double));
    for (int64_t n = 0; n < size.N; n++) {
        const float *row = w + n * size.d();
        SIMD for (int64_t i = 0; i < size.d(); i++) inverse[i] += double(row[i]) * row[i];
    }
    for (int64_t i = 0; i < size.d(); i++) inverse[i] = 1 / (inverse[i] < FEWEST_SUM ? FEWEST_SUM : inverse[i]);
}

// S^-1/2 (K, p): squares of W alone may outgrow a float.
void inverse_norms(const double *inverse, int64_t d, float *norms) {
    for (int64_t i = 0; i < d; i++) norms[i] = float(std::sqrt(inverse[i]));
}

// sum_j W^2 / S of one token and head.
INLINE float share(const float *w, const float *norms, int64_t p) {
    float sum = 0;
    _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < p; j++) {
        const float unit = w[j] * norms[j];
        sum += unit * unit;
    }
    return sum;
}

void softmax(float *row, int64_t K) {
    float highest = row[0], sum = 0;
    for (int64_t k = 1; k < K; k++) highest = row[k] > highest || row[k] != row[k] ? row[k] : highest;
    for (int64_t k = 0; k < K; k++) sum += row[k] = std::exp(row[k] - highest);
    for (int64_t k = 0; k < K; k++) row[k] /= sum;
}

// m (K) and s (K, p).
void second_moment(const float *w, const float *pi, Sizes size, double *mass, double *moment) {
    std::memset(mass, 0, size.K * sizeof(double));
    std::memset(moment, 0, size.d() * sizeof(double));
    each_head(w, size, [&](const float *row, int64_t n, int64_t k) {
        const float own = pi[n * size.K + k];
        double *sums = moment + k * size.p;
        mass[k] += own;
        SIMD for (int64_t j = 0; j < size.p; j++) sums[j] += double(own) * row[j] * row[j];
    });
    for (int64_t k = 0; k < size.K; k++) {
        mass[k] += FEWEST_MASS;
        for (int64_t j = 0; j < size.p; j++) moment[k * size.p + j] /= mass[k];
    }
}

void narrow(const double *from, int64_t count, float *to) {
    for (int64_t i = 0; i < count; i++) to[i] = float(from[i]);
}

}  // namespace

extern "C" {

// w, t (K) -> pi. Returns 0 without memory.
int memberships(const float *w, const float *t, int64_t B, int64_t N, int64_t K, int64_t p, int threads, float *pi) {
    const Sizes size{N, K, p};
    const int64_t d = size.d();
    return in_threads(B, 3 * d, threads, [&](int64_t b, float *scratch) {
        const float *own = w + b * N * d;
        float *out = pi + b * N * K, *norms = scratch + 2 * d;
        inverse_sums(own, size, (double *)scratch);
        inverse_norms((double *)scratch, d, norms);
        each_head(own, size, [&](const float *row, int64_t n, int64_t k) {
            out[n * K + k] = t[k] * share(row, norms + k * p, p);
        });
        for (int64_t n = 0; n < N; n++) softmax(out + n * K, K);
        return true;
    });
}

// With c_nk = 2 t_k Pi_nk (g_nk - sum_l Pi_nl g_nl):
// dW = W (c / S - sum_n c W^2 / S^2), dt_k = sum_n c_nk share_nk / (2 t_k), given for each sample: dt (B, K).
int memberships_backward(const float *w, const float *t, const float *pi, const float *g, int64_t B, int64_t N,
                         int64_t K, int64_t p, int threads, float *dw, float *dt) {
    const Sizes size{N, K, p};
    const int64_t d = size.d();
    return in_threads(B, 7 * d + 2 * K + N * K, threads, [&](int64_t b, float *scratch) {
        const float *own = w + b * N * d;
        double *inverse = (double *)scratch, *spread = inverse + d, *sums = spread + d;
        float *narrow_inverse = (float *)(sums + K), *narrow_spread = narrow_inverse + d,
              *norms = narrow_spread + d, *c = norms + d;
        inverse_sums(own, size, inverse);
        narrow(inverse, d, narrow_inverse);
        inverse_norms(inverse, d, norms);
        std::memset(spread, 0, d * sizeof(double));
        std::memset(sums, 0, K * sizeof(double));
        for (int64_t n = 0; n < N; n++) {
            const int64_t start = (b * N + n) * K;
            float mean = 0;
            for (int64_t k = 0; k < K; k++) mean += pi[start + k] * g[start + k];
            for (int64_t k = 0; k < K; k++) c[n * K + k] = pi[start + k] * (g[start + k] - mean);
        }
        each_head(own, size, [&](const float *row, int64_t n, int64_t k) {
            sums[k] += c[n * K + k] * share(row, norms + k * p, p);
            const float weight = c[n * K + k] *= 2 * t[k];
            double *to = spread + k * p;
            SIMD for (int64_t j = 0; j < p; j++) to[j] += double(weight) * row[j] * row[j];
        });
        for (int64_t i = 0; i < d; i++)
            narrow_spread[i] = inverse[i] < 1 / FEWEST_SUM ? float(spread[i] * inverse[i] * inverse[i]) : 0;
        narrow(sums, K, dt + b * K);
        each_head(own, size, [&](const float *row, int64_t n, int64_t k) {
            const float weight = c[n * K + k], *over = narrow_inverse + k * p, *less = narrow_spread + k * p;
            float *to = dw + b * N * d + (row - own);
            SIMD for (int64_t j = 0; j < p; j++) to[j] = row[j] * (weight * over[j] - less[j]);
        });
        return true;
    });
}

// w, pi -> h. Returns 0 without memory.
int step(const float *w, const float *pi, int64_t B, int64_t N, int64_t K, int64_t p, int threads, float *h) {
    const Sizes size{N, K, p};
    const int64_t d = size.d();
    return in_threads(B, 3 * d + 2 * K, threads, [&](int64_t b, float *scratch) {
        const float *own = w + b * N * d, *belongs = pi + b * N * K;
        double *mass = (double *)scratch, *moment = mass + K;
        float *inverse = (float *)(moment + d);
        second_moment(own, belongs, size, mass, moment);
        for (int64_t i = 0; i < d; i++) inverse[i] = float(1 / (1 + moment[i]));
        each_head(own, size, [&](const float *row, int64_t n, int64_t k) {
            const float minus = -belongs[n * K + k], *over = inverse + k * p;
            float *to = h + b * N * d + (row - own);
            SIMD for (int64_t j = 0; j < p; j++) to[j] = minus * row[j] * over[j];
        });
        return true;
    });
}

// With e_kj = sum_n Pi g W / (D^2 m) and r_k = sum_j e_kj s_kj:
// dW = Pi (2 W e - g / D),   dPi_nk = sum_j (W^2 e - g W / D) - r_k.
int step_backward(const float *w, const float *pi, const float *g, int64_t B, int64_t N, int64_t K, int64_t p,
                  int threads, float *dw, float *dpi) {
    const Sizes size{N, K, p};
    const int64_t d = size.d();
    return in_threads(B, 6 * d + 3 * K, threads, [&](int64_t b, float *scratch) {
        const float *own = w + b * N * d, *belongs = pi + b * N * K, *above = g + b * N * d;
        double *mass = (double *)scratch, *moment = mass + K, *along = moment + d;
        float *inverse = (float *)(along + d), *e = inverse + d, *r = e + d;
        second_moment(own, belongs, size, mass, moment);
        std::memset(along, 0, d * sizeof(double));
        each_head(own, size, [&](const float *row, int64_t n, int64_t k) {
            const float weight = belongs[n * K + k], *up = above + (row - own);
            double *to = along + k * p;
            SIMD for (int64_t j = 0; j < p; j++) to[j] += double(weight) * up[j] * row[j];
        });
        for (int64_t k = 0; k < K; k++) {
            double sum = 0;
            for (int64_t i = k * p; i < (k + 1) * p; i++) {
                const double over = 1 / (1 + moment[i]), own_e = along[i] * over * over / mass[k];
                inverse[i] = float(over), e[i] = float(own_e);
                sum += own_e * moment[i];
            }
            r[k] = float(sum);
        }
        each_head(own, size, [&](const float *row, int64_t n, int64_t k) {
            const float weight = belongs[n * K + k], *up = above + (row - own), *over = inverse + k * p,
                        *own_e = e + k * p;
            float *to = dw + b * N * d + (row - own), sum = 0;
            _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < p; j++) {
                const float shrunk = up[j] * over[j], turned = row[j] * own_e[j];
                sum += row[j] * (turned - shrunk);
                to[j] = weight * (2 * turned - shrunk);
            }
            dpi[(b * N + n) * K + k] = sum - r[k];
        });
        return true;
    });
}

}  // extern "C"
