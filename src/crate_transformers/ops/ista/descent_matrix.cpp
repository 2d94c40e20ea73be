// D - D^T D on a CPU, in float32. D^T D is symmetric: the tiles on and above the diagonal are computed, and each is
// written to both of its places.
//
// D is first copied to panels of PANEL columns, one row after another, from which the products of vectors.h read
// without gaps. A task is a square of SIDE x SIDE panels; STEP rows of its panels stay in the first caches.
//
// Shapes: d width; D and the result (d, d), rows without gaps.

#include "vectors.h"

namespace {

const int64_t PANEL = 48, SIDE = 2, STEP = 96;

// Rows of D, the columns of one panel: (d, PANEL), what lies outside is zero.
void pack(const float *dictionary, int64_t d, int64_t first, float *panel) {
    const int64_t columns = d - first < PANEL ? d - first : PANEL;
    for (int64_t k = 0; k < d; k++, panel += PANEL) {
        std::memcpy(panel, dictionary + k * d + first, columns * sizeof(float));
        std::memset(panel + columns, 0, (PANEL - columns) * sizeof(float));
    }
}

// out = D - tile where its first row and column are given; what lies outside is left out.
void subtract(const float *tile, const float *dictionary, int64_t d, int64_t row, int64_t column, float *out) {
    const int64_t rows = d - row < PANEL ? d - row : PANEL, columns = d - column < PANEL ? d - column : PANEL;
    for (int64_t i = 0; i < rows; i++, tile += PANEL) {
        const int64_t start = (row + i) * d + column;
        int64_t j = 0;
        for (; j + LANES <= columns; j += LANES) store(out + start + j, load(dictionary + start + j) - load(tile + j));
        for (; j < columns; j++) out[start + j] = dictionary[start + j] - tile[j];
    }
}

}  // namespace

extern "C" {

// dictionary, out: (d, d). panels: room for ceil(d / 48) * 48 * d floats. Returns 0 without memory.
int descent_matrix(const float *dictionary, int64_t d, int threads, float *panels, float *out) {
    const int64_t count = (d + PANEL - 1) / PANEL, side = (count + SIDE - 1) / SIDE, size = PANEL * PANEL;
    const bool packed = in_threads(count, 1, threads, [&](int64_t index, float *) {
        pack(dictionary, d, index * PANEL, panels + index * d * PANEL);
        return true;
    });
    return packed && in_threads(side * side, (SIDE * SIDE + 1) * size, threads, [&](int64_t index, float *tiles) {
        const int64_t top = index / side * SIDE, left = index % side * SIDE;
        if (top > left) return true;  // the other half
        auto each = [&](auto body) {
            for (int64_t i = top; i < top + SIDE && i < count; i++)
                for (int64_t j = left; j < left + SIDE && j < count; j++)
                    if (i <= j) body(i, j, tiles + ((i - top) * SIDE + j - left) * size);
        };
        std::memset(tiles, 0, SIDE * SIDE * size * sizeof(float));
        for (int64_t k = 0; k < d; k += STEP)
            each([&](int64_t i, int64_t j, float *tile) {
                add_product(tile, panels + (i * d + k) * PANEL, 1, PANEL, panels + (j * d + k) * PANEL, PANEL, PANEL,
                            d - k < STEP ? d - k : STEP, PANEL);
            });
        each([&](int64_t i, int64_t j, float *tile) {
            float *turned = tiles + SIDE * SIDE * size;
            subtract(tile, dictionary, d, i * PANEL, j * PANEL, out);
            if (i == j) return;
            transpose_tile(tile, PANEL, PANEL, turned, PANEL);
            subtract(turned, dictionary, d, j * PANEL, i * PANEL, out);
        });
        return true;
    });
}

}
