// MSSA on a CPU, forward and backward, with one tensor W as query, key and value, in float32.
//
//   O_i = sum_j exp(s w_i.w_j) w_j / sum_j exp(s w_i.w_j)                                        (s: the scaling)
//
// With h_i = s |w_i|^2 / 2 the exponential is exp(h_i) E_ij exp(h_j), where E_ij = exp(s w_i.w_j - h_i - h_j)
// = exp(-s |w_i - w_j|^2 / 2): attention with one tensor is a smoother with a Gaussian kernel and weights
// v_j = exp(h_j - max h),
//
//   O_i = sum_j E_ij y_j / D_i,   D_i = sum_j E_ij v_j,   y_j = v_j w_j.
//
// E is symmetric and at most 1: half of its tiles are computed, and each serves its rows and its columns. Backward,
// with g_i = dO_i / D_i and b_i = g_i.O_i,
//
//   X_ij = E_ij [(g_i.y_j - b_i v_j) + (g_j.y_i - b_j v_i)]                      = dS_ij + dS_ji, symmetric too
//   dW_i = v_i sum_j E_ij g_j + s sum_j X_ij w_j.
//
// Causal, i attends to j <= i: the first bracket holds for j <= i, the second one for j >= i.
//
// A tile of E is TILE x TILE and stays in the first cache; memory is linear in the tokens. One thread takes one head of
// one sequence. Shapes: n tokens, p features, P features in whole vectors, all rows of scratch in whole tiles.
//
// Source: the identities above are ours; tiles and recomputation as in FlashAttention-2, arXiv 2307.08691.

#include "vectors.h"

namespace {

const int64_t TILE = 48;  // whole blocks of rows, whole vectors
const int64_t AHEAD = 12;  // rows that are fetched before they are copied
const float SPREAD = 70;  // of h: beyond it what a short token takes of the others is lost to underflow

// tile[r * TILE + c] = body(A B at (r, c ...), r, c) for the rows and columns that there are; B is (terms, TILE).
template <class Body>
INLINE void fill_tile(float *tile, const float *a, int64_t width, const float *b, int64_t terms, int64_t rows,
                      int64_t columns, Body body) {
    product(tile, TILE, a, width, 1, b, TILE, rows, terms, columns,
            [&](float *place, vec sum, int64_t i, int64_t j) { store(place, body(sum, i, j)); });
}

INLINE void keep_lower(float *tile) {
    for (int64_t i = 0; i < TILE; i++)
        for (int64_t j = 0; j < TILE; j += LANES)
            store(tile + i * TILE + j, keep(load(tile + i * TILE + j), lanes_from(j) <= int32_t(i)));
}

INLINE void keep_upper(float *tile) {
    for (int64_t i = 0; i < TILE; i++)
        for (int64_t j = 0; j < TILE; j += LANES)
            store(tile + i * TILE + j, keep(load(tile + i * TILE + j), lanes_from(j) >= int32_t(i)));
}

struct Size {
    int64_t n, p, P, tiles, rows;  // rows: n in whole tiles

    Size(int64_t n, int64_t p)
        : n(n), p(p), P(whole_vectors(p)), tiles((n + TILE - 1) / TILE), rows(tiles * TILE) {}

    int64_t in_tile(int64_t t) const { return t + 1 < tiles ? TILE : n - t * TILE; }

    // Asks for the rows of tile t, `stride` apart, which will be written: fetched then, they would be waited for.
    INLINE void announce(float *at, int64_t stride, int64_t t) const {
        for (int64_t i = t * TILE; i < t * TILE + in_tile(t); i++)
            for (int64_t k = 0; k < p; k += 16) __builtin_prefetch(at + i * stride + k, 1);
    }

    // (n, p) with rows `stride` apart to rows `width` apart, zero where nothing is
    void copy(const float *from, int64_t stride, float *to, int64_t width) const {
        for (int64_t i = 0; i < rows; i++, to += width) {
            const int64_t there = i < n ? p : 0;
            if (i + AHEAD < n)  // rows lie too far apart for the processor to guess them
                for (int64_t k = 0; k < p; k += 16) __builtin_prefetch(from + (i + AHEAD) * stride + k);
            std::memcpy(to, from + i * stride, there * sizeof(float));
            std::memset(to + there, 0, (P - there) * sizeof(float));
        }
    }
};

// The tokens of one head as both directions read them.
struct Tokens {
    const Size size;
    const float scale;
    float *rows, *transposed, *half, *weight;  // w (n, P); tiles of (P, TILE); h (n); v (n)

    static int64_t floats(const Size &s) { return s.rows * (2 * s.P + 2); }

    Tokens(const Size &s, float scale, float *scratch) : size(s), scale(scale) {
        rows = scratch;
        transposed = rows + s.rows * s.P;
        half = transposed + s.rows * s.P;
        weight = half + s.rows;
    }

    // Whether the tokens are finite and h is of a spread that v can hold.
    INLINE bool read(const float *w, int64_t stride) {
        const int64_t P = size.P;
        size.copy(w, stride, rows, P);
        for (int64_t t = 0; t < size.tiles; t++) {
            float *tile = transposed + t * TILE * P;
            transpose_tile(rows + t * TILE * P, P, P, tile, TILE);
            for (int64_t i = 0; i < TILE; i += LANES) {
                vec squares = {};
                for (int64_t k = 0; k < P; k++) squares += load(tile + k * TILE + i) * load(tile + k * TILE + i);
                store(half + t * TILE + i, squares * (0.5f * scale));
            }
        }
        float highest = half[0], lowest = half[0];
        for (int64_t i = 0; i < size.n; i++) {
            if (!std::isfinite(half[i])) return false;
            highest = half[i] > highest ? half[i] : highest;
            lowest = half[i] < lowest ? half[i] : lowest;
        }
        for (int64_t i = 0; i < size.rows; i += LANES)
            store(weight + i, keep(exponential(load(half + i) - highest), lanes_from(i) < int32_t(size.n)));
        return highest - lowest <= SPREAD;
    }

    // Tile (r, c) of E; what is stored of each of its vectors is visit(E at (i, j ...), i, j).
    template <class Visit>
    INLINE void kernel(int64_t r, int64_t c, float *tile, Visit visit) const {
        const int64_t in_r = size.in_tile(r), in_c = size.in_tile(c);
        const float *h_r = half + r * TILE, *h_c = half + c * TILE;
        fill_tile(tile, rows + r * TILE * size.P, size.P, transposed + c * TILE * size.P, size.P, in_r, in_c,
                  [](vec product, int64_t, int64_t) { return product; });
        for (int64_t j = 0; j < in_c; j += LANES)
            for (int64_t i = 0; i < in_r; i++) {
                float *place = tile + i * TILE + j;
                store(place, visit(exponential(load(place) * scale - h_r[i] - load(h_c + j)), i, j));
            }
    }
};

int64_t forward_floats(const Size &s) { return s.rows * (2 * s.P + LANES) + TILE * TILE; }

void forward(const Tokens &tokens, bool causal, float *scratch, float *out, int64_t stride, float *total) {
    const Size &s = tokens.size;
    const int64_t P = s.P;
    float *weighted = scratch, *mixed = weighted + s.rows * P;          // y, sum_j E y
    float *partial = mixed + s.rows * P, *tile = partial + s.rows * LANES;  // D before its lanes are summed
    std::memset(mixed, 0, s.rows * (P + LANES) * sizeof(float));
    std::memset(total, 0, s.n * sizeof(float));
    for (int64_t i = 0; i < s.rows; i++)
        for (int64_t k = i * P; k < (i + 1) * P; k += LANES)
            store(weighted + k, load(tokens.rows + k) * tokens.weight[i]);

    for (int64_t r = 0; r < s.tiles; r++) {
        s.announce(out, stride, r);
        for (int64_t c = 0; c <= r; c++) {
            const int64_t rows = s.in_tile(r), columns = s.in_tile(c);
            const float *v_r = tokens.weight + r * TILE, *v_c = tokens.weight + c * TILE;
            vec down[TILE / LANES] = {};  // sums over the rows
            tokens.kernel(r, c, tile, [&](vec e, int64_t i, int64_t j) {
                if (causal && r == c) e = keep(e, lanes_from(j) <= int32_t(i));
                float *place = partial + (r * TILE + i) * LANES;
                store(place, load(place) + e * load(v_c + j));
                down[j / LANES] += e * v_r[i];
                return e;
            });
            add_product(mixed + r * TILE * P, tile, TILE, 1, weighted + c * TILE * P, P, rows, columns, P);
            if (causal || r == c) continue;
            for (int64_t j = 0; j < TILE; j += LANES)  // c < r: a whole tile
                store(total + c * TILE + j, load(total + c * TILE + j) + down[j / LANES]);
            add_product(mixed + c * TILE * P, tile, 1, TILE, weighted + r * TILE * P, P, columns, rows, P);
        }
    }

    for (int64_t i = 0; i < s.n; i++) {
        total[i] += sum(load(partial + i * LANES));
        const float inverse = 1 / total[i];
        for (int64_t k = i * P; k < (i + 1) * P; k += LANES) store(mixed + k, load(mixed + k) * inverse);
        std::memcpy(out + i * stride, mixed + i * P, s.p * sizeof(float));
    }
}

int64_t backward_floats(const Size &s) { return s.rows * (6 * s.P + 1) + 2 * TILE * TILE; }

void backward(const Tokens &tokens, bool causal, float *scratch, const float *gradient, const float *out,
              int64_t stride, const float *total, float *grad) {
    const Size &s = tokens.size;
    const int64_t P = s.P, B = 2 * P;
    float *both = scratch, *transposed = both + s.rows * B;                          // [g, y]; tiles of [y, g]
    float *smooth = transposed + s.rows * B, *scores = smooth + s.rows * P;          // sum_j E g, sum_j X w
    float *delta = scores + s.rows * P, *tile = delta + s.rows, *change = tile + TILE * TILE;  // b, E, X
    std::memset(smooth, 0, 2 * s.rows * P * sizeof(float));
    s.copy(out, stride, both + P, B);
    s.copy(gradient, stride, both, B);
    for (int64_t i = 0; i < s.rows; i++) {
        float *g = both + i * B, *y = g + P;
        const float inverse = i < s.n ? 1 / total[i] : 0;
        vec products = {};
        for (int64_t k = 0; k < P; k += LANES) {
            store(g + k, load(g + k) * inverse);
            products += load(g + k) * load(y + k);
            store(y + k, load(tokens.rows + i * P + k) * tokens.weight[i]);
        }
        delta[i] = sum(products);
    }
    for (int64_t t = 0; t < s.tiles; t++) {
        transpose_tile(both + t * TILE * B + P, B, P, transposed + t * TILE * B, TILE);
        transpose_tile(both + t * TILE * B, B, P, transposed + t * TILE * B + TILE * P, TILE);
    }

    for (int64_t r = 0; r < s.tiles; r++) {
        s.announce(grad, stride, r);
        for (int64_t c = 0; c <= r; c++) {
            const int64_t rows = s.in_tile(r), columns = s.in_tile(c);
            const float *v_r = tokens.weight + r * TILE, *v_c = tokens.weight + c * TILE;
            const float *b_r = delta + r * TILE, *b_c = delta + c * TILE;
            const float *left = both + r * TILE * B, *right = transposed + c * TILE * B;
            const auto at = [&](int64_t i, int64_t j) { return load(tile + i * TILE + j); };
            tokens.kernel(r, c, tile, [](vec e, int64_t, int64_t) { return e; });
            if (!causal) {
                fill_tile(change, left, B, right, B, rows, columns, [&](vec product, int64_t i, int64_t j) {
                    return at(i, j) * (product - load(v_c + j) * b_r[i] - load(b_c + j) * v_r[i]);
                });
            } else {
                fill_tile(change, left, B, right, P, rows, columns, [&](vec product, int64_t i, int64_t j) {
                    return at(i, j) * (product - load(v_c + j) * b_r[i]);
                });
                if (r == c) {
                    keep_lower(change);
                    keep_upper(tile);
                    fill_tile(change, left + P, B, right + TILE * P, P, rows, columns,
                              [&](vec product, int64_t i, int64_t j) {
                                  return load(change + i * TILE + j) + at(i, j) * (product - load(b_c + j) * v_r[i]);
                              });
                }
            }
            if (!causal || r == c)
                add_product(smooth + r * TILE * P, tile, TILE, 1, both + c * TILE * B, B, rows, columns, P);
            add_product(scores + r * TILE * P, change, TILE, 1, tokens.rows + c * TILE * P, P, rows, columns, P);
            if (r == c) continue;
            add_product(smooth + c * TILE * P, tile, 1, TILE, both + r * TILE * B, B, columns, rows, P);
            add_product(scores + c * TILE * P, change, 1, TILE, tokens.rows + r * TILE * P, P, columns, rows, P);
        }
    }

    for (int64_t i = 0; i < s.n; i++) {
        for (int64_t k = i * P; k < (i + 1) * P; k += LANES)
            store(smooth + k, load(smooth + k) * tokens.weight[i] + load(scores + k) * tokens.scale);
        std::memcpy(grad + i * stride, smooth + i * P, s.p * sizeof(float));
    }
}

}  // namespace

extern "C" {

// w (batch, heads, n, p), strides in floats, the last one 1; out (batch, n, heads, p); total (batch, heads, n): D.
// Returns 0, with nothing of use written, where the tokens are not finite or their h too far apart.
int mssa_forward(const float *w, int64_t batch, int64_t heads, int64_t n, int64_t p, int64_t w_b, int64_t w_k,
                 int64_t w_n, float scale, int causal, int threads, float *out, float *total) {
    const Size s(n, p);
    const int64_t read = Tokens::floats(s);
    return in_threads(batch * heads, read + forward_floats(s), threads, [&](int64_t index, float *scratch) {
        const int64_t b = index / heads, k = index % heads;
        Tokens tokens(s, scale, scratch);
        if (!tokens.read(w + b * w_b + k * w_k, w_n)) return false;
        forward(tokens, causal, scratch + read, out + (b * n * heads + k) * p, heads * p, total + index * n);
        return true;
    });
}

// gradient, out and grad (batch, n, heads, p); the rest as the forward pass took and gave it.
int mssa_backward(const float *w, int64_t batch, int64_t heads, int64_t n, int64_t p, int64_t w_b, int64_t w_k,
                  int64_t w_n, float scale, int causal, int threads, const float *gradient, const float *out,
                  const float *total, float *grad) {
    const Size s(n, p);
    const int64_t read = Tokens::floats(s);
    return in_threads(batch * heads, read + backward_floats(s), threads, [&](int64_t index, float *scratch) {
        const int64_t b = index / heads, k = index % heads, first = (b * n * heads + k) * p;
        Tokens tokens(s, scale, scratch);
        if (!tokens.read(w + b * w_b + k * w_k, w_n)) return false;
        backward(tokens, causal, scratch + read, gradient + first, out + first, heads * p, total + index * n,
                 grad + first);
        return true;
    });
}

}
