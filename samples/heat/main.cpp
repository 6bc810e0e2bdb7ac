// SPDX-License-Identifier: Apache-2.0
//
// heat - a picture melts on the device, while the CPU measures it and heats its rim through plain pointers.
//
// The main sample. The program itself is unified_memory.cpp: read that first. explicit_copies.cpp is the same program
// as it is written without unified memory, cpu_alone.cpp the same without a device. Here all three are run, compared
// to the last bit (every reading, every frame, the final picture), and what each of them cost is put side by side.
#include <getopt.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <filesystem>
#include <gmem/gmem.hpp>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "../png_image.h"
#include "../whole_number.h"
#include "melting.h"

namespace {

using heat::outcome;
using heat::task;

constexpr std::size_t steps_max = 1000000, frames_max = 1000;
constexpr std::size_t height_min = 3;  // two rows that stay and one that does not

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Says what differs; empty when nothing does.
std::string difference(const outcome& checked, const outcome& expected) {
  if (!same_bits(checked.readings, expected.readings)) return "the thermometers' readings differ";
  for (std::size_t i = 0; i < expected.frames.size(); ++i) {
    if (checked.frames[i].rgb != expected.frames[i].rgb) return "frame " + std::to_string(i + 1) + " differs";
  }
  return same_bits(checked.final, expected.final) ? "" : "the final pictures differ";
}

void print_table(const outcome& unified, const outcome& copies, const outcome& plain) {
  const auto print_row = [](const char* what, const auto& first, const auto& second, const auto& third) {
    std::cout << std::left << std::setw(20) << what << std::right << std::setw(16) << first << std::setw(17) << second
              << std::setw(15) << third << '\n';
  };
  const auto milliseconds = [](const outcome& o) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(1) << o.seconds * 1000;
    return text.str();
  };
  print_row("", "unified memory", "explicit copies", "the CPU alone");
  print_row("time, ms", milliseconds(unified), milliseconds(copies), milliseconds(plain));
  print_row("CPU faults", unified.cpu_faults, copies.cpu_faults, "-");
  print_row("pages to the device", unified.pages_to_device, "-", "-");
  print_row("pages to the CPU", unified.pages_to_cpu, "-", "-");
  print_row("bytes to the device", unified.bytes_to_device, copies.bytes_to_device, "-");
  print_row("bytes to the CPU", unified.bytes_to_cpu, copies.bytes_to_cpu, "-");
  print_row("copies asked for", unified.copy_calls, copies.copy_calls, "-");
}

int run(const task& t, const std::string& folder) {
  std::error_code trouble;
  std::filesystem::create_directories(folder, trouble);
  if (trouble) {
    std::cerr << "heat: cannot make the folder " << folder << ": " << trouble.message()
              << "; name another with --out\n";
    return 1;
  }
  std::cout << "heat: " << t.start.width << " x " << t.start.height << " pixels, " << t.steps << " steps on "
            << gm::node_info(1).name << '\n';

  const outcome unified = run_with_unified_memory(t);
  const outcome copies = run_with_explicit_copies(t);
  const outcome plain = run_on_the_cpu_alone(t);

  for (std::size_t i = 0; i < unified.frames.size(); ++i) {
    sample::write_png(folder + "/frame-" + std::to_string(i + 1) + ".png", unified.frames[i]);
  }
  std::cout << unified.frames.size() << " frames written to " << folder << "\n\n";
  print_table(unified, copies, plain);

  const std::string wrong_unified = difference(unified, plain), wrong_copies = difference(copies, plain);
  if (!wrong_unified.empty() || !wrong_copies.empty()) {
    std::cerr << "heat: WRONG: " << (wrong_unified.empty() ? wrong_copies : wrong_unified) << " between "
              << (wrong_unified.empty() ? "explicit copies" : "unified memory") << " and the CPU alone\n";
    return 1;
  }
  std::cout << "\nheat: all three agree to the last bit\n";
  return 0;
}

// The picture that comes with the samples: from the top of the source tree, or from where this was compiled.
std::string default_picture() {
  const std::filesystem::path from_the_top = "samples/images/lake.png";
  if (std::filesystem::exists(from_the_top)) return from_the_top.string();
  return (std::filesystem::path(__FILE__).parent_path().parent_path() / "images/lake.png").string();
}

void usage(std::ostream& to) {
  to << "Usage: sample_heat [OPTION]... [PICTURE]\n"
        "Lets PICTURE (any PNG; without one, the lake that comes with the samples) melt on the first device while the\n"
        "CPU measures it and heats its rim, and compares with explicit copies and with the CPU alone.\n"
        "  -s, --steps=N    steps of diffusion, 1 to "
     << steps_max
     << " (default 400)\n"
        "  -f, --frames=N   pictures to write, 1 to "
     << frames_max
     << " and at most one a step (default 8)\n"
        "  -o, --out=DIR    where to write them (default ./heat-frames)\n"
        "  -h, --help       this text\n";
}

int refuse() {
  usage(std::cerr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t steps = 400, frames = 8;
  std::string folder = "./heat-frames";
  const option options[] = {{"steps", required_argument, nullptr, 's'},
                            {"frames", required_argument, nullptr, 'f'},
                            {"out", required_argument, nullptr, 'o'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
  for (int letter; (letter = getopt_long(argc, argv, "s:f:o:h", options, nullptr)) != -1;) {
    if (letter == 'h') {
      usage(std::cout);
      return 0;
    }
    if (letter == 'o' && *optarg != '\0') {
      folder = optarg;
    } else if (letter == 's' || letter == 'f') {
      const auto number = sample::whole_number(optarg, 1, letter == 's' ? steps_max : frames_max);
      if (!number) return refuse();
      (letter == 's' ? steps : frames) = *number;
    } else {
      return refuse();
    }
  }
  if (argc - optind > 1) return refuse();
  try {
    const std::string path = optind < argc ? argv[optind] : default_picture();
    const task t{sample::read_png(path), steps, std::min(frames, steps)};
    if (t.start.height < height_min) {
      std::cerr << "heat: " << path << " is " << t.start.height << " pixels high; it takes " << height_min
                << " or more\n";
      return 1;
    }
    return run(t, folder);
  } catch (const std::exception& failure) {
    std::cerr << "heat: " << failure.what() << '\n';
    return 1;
  }
}
