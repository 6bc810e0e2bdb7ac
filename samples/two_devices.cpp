// SPDX-License-Identifier: Apache-2.0
//
// two_devices - one board of Conway's game of life, its upper half worked on by one device, its lower by another.
//
// The idea: the board is one allocation. Each device declares what it reads, its own half and one row of the other's,
// and what it writes, its own half of the next board. From these declarations alone the runtime copies the rows at the
// seam from device to device, page by page, and keeps one device's step behind what the other has still to finish.
// The rule table is read by both and written by nobody, so host and devices each keep a copy, at the same time.
//
// Two simulated devices are asked for here; GM_SIM_DEVICES and GM_BACKEND in the environment win.
#include <getopt.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <iostream>
#include <vector>

#include "whole_number.h"

namespace {

constexpr std::size_t steps_max = 100000;
constexpr std::size_t width = 2048;  // one byte a cell: 32 rows fill a page, so the seam lies between two pages
constexpr std::size_t height = 2048;
constexpr std::size_t rows_a_device = height / 2;
constexpr std::size_t cells = width * height;
constexpr std::array devices = {1, 2};

// What a cell becomes, by 9 * (is it alive) + how many of its eight neighbours are.
constexpr std::size_t rules = 18;
void write_rules(std::uint8_t* table) {
  for (std::size_t i = 0; i < rules; ++i) table[i] = i == 3 || i == 9 + 2 || i == 9 + 3 ? 1 : 0;
}

void scatter(std::uint8_t* board) {
  std::uint32_t random = 2463534242;
  for (std::size_t i = 0; i < cells; ++i) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    board[i] = random % 100 < 37 ? 1 : 0;
  }
}

// One cell of the next board. The edge of the board is dead: its cells stay 0.
GM_HOST_DEVICE std::uint8_t next_cell(const std::uint8_t* board, const std::uint8_t* table, std::size_t row,
                                      std::size_t column) {
  if (row == 0 || row == height - 1 || column == 0 || column == width - 1) return 0;
  const std::uint8_t* here = board + row * width + column;
  const std::uint8_t *above = here - width, *below = here + width;
  const int neighbours = above[-1] + above[0] + above[1] + here[-1] + here[1] + below[-1] + below[0] + below[1];
  return table[9 * here[0] + neighbours];
}

using bytes = gm::unique_ptr<std::uint8_t[]>;

// Queues one step of one device's half. Nothing here waits, and nothing says what has to be copied.
void queue_half(gm::stream& stream, const bytes& now, const bytes& next, const bytes& table) {
  const bool upper = stream.node() == devices[0];
  const std::size_t first_row = upper ? 0 : rows_a_device;
  const std::size_t first_row_read = upper ? 0 : first_row - 1;  // ... and the row beyond the seam

  gm::scope use(stream, gm::read(table), gm::read(now.get() + first_row_read * width, (rows_a_device + 1) * width),
                gm::write(next.get() + first_row * width, rows_a_device * width));
  const std::uint8_t* rule = gm::device_pointer(table.get(), stream);
  // Taken from what the scope covers, and moved back to where the board would begin.
  const std::uint8_t* from = gm::device_pointer(now.get() + first_row_read * width, stream) - first_row_read * width;
  std::uint8_t* to = gm::device_pointer(next.get() + first_row * width, stream) - first_row * width;
  gm::parallel_for(
      stream, rows_a_device, GM_LAMBDA(std::size_t i) {
        const std::size_t row = first_row + i;
        for (std::size_t column = 0; column < width; ++column) {
          to[row * width + column] = next_cell(from, rule, row, column);
        }
      });
}

std::vector<std::uint8_t> plain_result(std::size_t steps) {
  std::vector<std::uint8_t> table(rules), now(cells), next(cells);
  write_rules(table.data());
  scatter(now.data());
  for (std::size_t step = 0; step < steps; ++step) {
    for (std::size_t i = 0; i < cells; ++i) next[i] = next_cell(now.data(), table.data(), i / width, i % width);
    now.swap(next);
  }
  return now;
}

int run(std::size_t steps) {
  gm_options options = gm::default_options();
  options.sim_devices = devices.size();
  gm::init(options);
  if (const int found = gm::node_count() - 1; found < static_cast<int>(devices.size())) {
    std::cerr << "two_devices: this needs two devices and " << found << " is there (" << gm::node_info(1).name
              << "); to run it on simulated ones: GM_BACKEND=sim GM_SIM_DEVICES=2\n";
    return 1;
  }

  bytes table = gm::make_unique<std::uint8_t[]>(rules);
  bytes now = gm::make_unique_for_overwrite<std::uint8_t[]>(cells);
  bytes next = gm::make_unique_for_overwrite<std::uint8_t[]>(cells);
  write_rules(table.get());
  scatter(now.get());

  gm::stream upper(devices[0]), lower(devices[1]);
  for (std::size_t step = 0; step < steps; ++step) {
    queue_half(upper, now, next, table);
    queue_half(lower, now, next, table);
    now.swap(next);
  }
  upper.synchronize();
  lower.synchronize();

  std::cout << "the rule table is valid on";
  const gm_mapping mapping = gm::query(table.get());
  for (int node = 0; node < gm::node_count(); ++node) {
    if ((mapping.valid_nodes >> node & 1U) != 0)
      std::cout << " node " << node << " (" << gm::node_info(node).name << ")";
  }
  const std::uint32_t everywhere = 1U << GM_HOST | 1U << devices[0] | 1U << devices[1];
  if (mapping.valid_nodes != everywhere) {
    std::cout << '\n';
    std::cerr << "two_devices: WRONG: the host and both devices should each hold a copy of what nobody writes\n";
    return 1;
  }
  std::cout << ": one page, three copies\n";
  for (const int device : devices) {
    const gm_node_stats stats = gm::stats().node[device];
    std::cout << "node " << device << ": " << stats.pages_in << " pages came in, " << stats.pages_out << " went out in "
              << steps << " steps\n";
  }

  const std::vector<std::uint8_t> expected = plain_result(steps);
  for (std::size_t i = 0; i < cells; ++i) {
    if (now[i] != expected[i]) {
      std::cerr << "two_devices: WRONG: after " << steps << " steps the cell in row " << i / width << ", column "
                << i % width << " is " << int{now[i]} << " and should be " << int{expected[i]} << '\n';
      return 1;
    }
  }
  std::cout << "two_devices: all " << cells << " cells equal to the CPU's after " << steps << " steps\n";
  return 0;
}

void usage(std::ostream& to) {
  to << "Usage: sample_two_devices [OPTION]...\n"
        "Plays the game of life on one board that two devices share, and checks every cell.\n"
        "  -s, --steps=N   generations, 1 to "
     << steps_max
     << " (default 50)\n"
        "  -h, --help      this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t steps = 50;
  const option options[] = {{"steps", required_argument, nullptr, 's'}, {"help", no_argument, nullptr, 'h'}, {}};
  for (int letter; (letter = getopt_long(argc, argv, "s:h", options, nullptr)) != -1;) {
    const auto number = letter == 's' ? sample::whole_number(optarg, 1, steps_max) : std::nullopt;
    if (!number) {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
    steps = *number;
  }
  if (optind != argc) {
    usage(std::cerr);
    return 2;
  }
  try {
    return run(steps);
  } catch (const std::exception& failure) {
    std::cerr << "two_devices: " << failure.what() << '\n';
    return 1;
  }
}
