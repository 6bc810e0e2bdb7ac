// SPDX-License-Identifier: Apache-2.0
//
// draw_picture - draws samples/images/lake.png, the picture that the heat sample melts.
//
// Nothing of gmem is in here: the project ships a picture of its own, and this is where it comes from. A lake at dusk,
// every pixel a function of its place: sky, sun, clouds, ridges, their reflection, and pines in front.
#include <getopt.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

#include "png_image.h"

namespace {

constexpr int side_pixels = 512;
constexpr int samples_a_side = 3;  // of each pixel, for smooth edges

// Places are fractions of the side, x to the right, y down; colours are linear light.
struct colour {
  double red, green, blue;
};

colour operator*(colour c, double k) { return {c.red * k, c.green * k, c.blue * k}; }
colour operator+(colour a, colour b) { return {a.red + b.red, a.green + b.green, a.blue + b.blue}; }
colour mix(colour a, colour b, double share) { return a * (1 - share) + b * share; }

double smooth(double from, double to, double x) {
  const double t = std::clamp((x - from) / (to - from), 0.0, 1.0);
  return t * t * (3 - 2 * t);
}

// A number of [0, 1) that looks random and depends on nothing but the arguments.
double hash(int x, int y) {
  std::uint32_t h = static_cast<std::uint32_t>(x) * 0x9e3779b1U ^ static_cast<std::uint32_t>(y) * 0x85ebca77U;
  h = (h ^ (h >> 15)) * 0x2c1b3c6dU;
  h = (h ^ (h >> 12)) * 0x297a2d39U;
  return (h ^ (h >> 15)) / 4294967296.0;
}

double noise(double x, double y) {
  const double left = std::floor(x), top = std::floor(y);
  const int i = static_cast<int>(left), j = static_cast<int>(top);
  const double u = smooth(0, 1, x - left), v = smooth(0, 1, y - top);
  return std::lerp(std::lerp(hash(i, j), hash(i + 1, j), u), std::lerp(hash(i, j + 1), hash(i + 1, j + 1), u), v);
}

double cloudy_noise(double x, double y, int octaves) {
  double sum = 0, weight = 0.5;
  for (int octave = 0; octave < octaves; ++octave, weight /= 2, x *= 2.03, y *= 2.03) sum += weight * noise(x, y);
  return sum;
}

constexpr double horizon = 0.60;
constexpr double sun_x = 0.63, sun_y = 0.375, sun_radius = 0.058;

colour sky(double x, double y) {
  const double up = std::clamp((horizon - y) / horizon, 0.0, 1.0);
  colour c = mix({1.00, 0.47, 0.16}, {0.83, 0.20, 0.22}, smooth(0.00, 0.28, up));
  c = mix(c, {0.27, 0.09, 0.30}, smooth(0.20, 0.55, up));
  c = mix(c, {0.025, 0.03, 0.14}, smooth(0.45, 1.00, up));

  const double away = std::hypot(x - sun_x, y - sun_y);
  c = c + colour{1.0, 0.50, 0.16} * (0.9 * std::exp(-away / 0.11));
  c = mix(c, {2.4, 1.75, 0.85}, smooth(sun_radius + 0.003, sun_radius - 0.003, away));

  const double cloud = cloudy_noise(x * 3.2 + 7, y * 17 + 3, 5);
  const colour lit = mix({1.0, 0.42, 0.25}, {0.30, 0.12, 0.30}, smooth(0.05, 0.65, up));
  c = mix(c, lit, 0.85 * smooth(0.50, 0.68, cloud) * smooth(0.02, 0.14, up) * smooth(0.95, 0.60, up));

  // One cell in a few holds a star; it is small, and drowned where the sky is bright.
  const int i = static_cast<int>(x * 44), j = static_cast<int>(y * 44);
  const double star_x = (i + 0.2 + 0.6 * hash(i, j + 900)) / 44, star_y = (j + 0.2 + 0.6 * hash(i + 900, j)) / 44;
  const double star =
      hash(i + 300, j + 300) < 0.16 ? std::exp(-std::pow(std::hypot(x - star_x, y - star_y) / 0.0017, 2)) : 0;
  return c + colour{1.0, 0.95, 0.9} * (star * smooth(0.50, 0.85, up) * (0.3 + hash(i + 50, j)));
}

// Ridges from the farthest to the nearest: how high they rise, how rough, and the colour that the haze leaves them.
struct ridge {
  double height, wave, offset;
  colour shade;
};
constexpr ridge ridges[] = {{0.210, 2.6, 11.3, {0.46, 0.17, 0.27}},
                            {0.150, 3.7, 47.9, {0.24, 0.085, 0.19}},
                            {0.100, 5.1, 83.1, {0.095, 0.04, 0.115}},
                            {0.045, 8.9, 29.7, {0.030, 0.017, 0.05}}};

colour land_and_sky(double x, double y) {
  colour c = sky(x, y);
  for (const ridge& r : ridges) {
    const double top = horizon - r.height * (0.25 + 1.35 * cloudy_noise(x * r.wave + r.offset, r.offset, 6));
    const double mist = smooth(top, horizon, y);
    if (y > top && y <= horizon) c = mix(r.shade, mix(r.shade, {0.90, 0.33, 0.30}, 0.30), mist);
  }
  return c;
}

colour water(double x, double y) {
  const double depth = (y - horizon) / (1 - horizon);
  const double ripple = cloudy_noise(x * 9, 42 * std::pow(depth, 0.55), 3) - 0.44;
  const double mirrored_y = horizon - (y - horizon) * 1.12 - ripple * 0.10 * (0.15 + depth);
  colour c = land_and_sky(x + ripple * 0.025 * depth, std::min(mirrored_y, horizon)) * (0.82 - 0.35 * depth);
  c = mix(c, {0.02, 0.03, 0.09}, 0.15 + 0.25 * depth);
  // The sun's road: broken glints below it.
  const double road = std::exp(-std::pow((x - sun_x) / (0.028 + 0.075 * depth), 2));
  const double glint = smooth(0.50, 0.66, cloudy_noise(x * 26, 75 * std::pow(depth, 0.6), 3));
  return c + colour{1.25, 0.72, 0.32} * (road * glint * (1.0 - 0.55 * depth));
}

// Whether the place is inside a pine with that foot and height.
bool in_pine(double x, double y, double foot_x, double foot_y, double height) {
  const double up = (foot_y - y) / height;
  if (up < 0 || up > 1) return false;
  if (std::abs(x - foot_x) < 0.012 * height * (1.2 - up)) return true;
  const double tiers = 9 * up;
  const double droop = 1 - 0.55 * (tiers - std::floor(tiers));
  const double ragged = 0.75 + 0.5 * noise((x > foot_x ? 7 : 0) + foot_x * 50, y * 170);
  return up > 0.07 && std::abs(x - foot_x) < 0.21 * height * (1 - up) * droop * ragged;
}

bool in_foreground(double x, double y) {
  const double left_bank = 0.955 - 0.13 * smooth(0.42, 0.0, x), right_bank = 0.985 - 0.10 * smooth(0.72, 1.0, x);
  if (y > std::min(left_bank, right_bank) - 0.02 * cloudy_noise(x * 60, 5, 3)) return true;
  struct pine {
    double x, y, height;
  };
  constexpr pine pines[] = {{0.030, 0.86, 0.52}, {0.105, 0.88, 0.66}, {0.175, 0.89, 0.40}, {0.235, 0.91, 0.50},
                            {0.295, 0.93, 0.24}, {0.905, 0.93, 0.34}, {0.965, 0.92, 0.47}, {0.850, 0.95, 0.19}};
  return std::any_of(std::begin(pines), std::end(pines),
                     [=](const pine& p) { return in_pine(x, y, p.x, p.y, p.height); });
}

colour scene(double x, double y) {
  if (in_foreground(x, y)) return {0.012, 0.010, 0.026};
  return y < horizon ? land_and_sky(x, y) : water(x, y);
}

std::uint8_t byte_of(double linear) {
  const double film = 1 - std::exp(-1.55 * linear);  // bright parts roll off instead of clipping
  return static_cast<std::uint8_t>(std::lround(255 * std::pow(std::clamp(film, 0.0, 1.0), 1 / 2.2)));
}

sample::picture draw() {
  sample::picture drawn{side_pixels, side_pixels, {}};
  drawn.rgb.reserve(std::size_t{3} * side_pixels * side_pixels);
  for (int row = 0; row < side_pixels; ++row) {
    for (int column = 0; column < side_pixels; ++column) {
      colour sum{0, 0, 0};
      for (int part = 0; part < samples_a_side * samples_a_side; ++part) {
        const int right = part % samples_a_side, down = part / samples_a_side;
        sum = sum + scene((column + (right + 0.5) / samples_a_side) / side_pixels,
                          (row + (down + 0.5) / samples_a_side) / side_pixels);
      }
      const colour mean = sum * (1.0 / (samples_a_side * samples_a_side));
      for (const double channel : {mean.red, mean.green, mean.blue}) drawn.rgb.push_back(byte_of(channel));
    }
  }
  return drawn;
}

void usage(std::ostream& to) {
  to << "Usage: sample_draw_picture FILE\n"
        "Draws the picture that the heat sample starts from, "
     << side_pixels
     << " pixels square, into FILE (a PNG).\n"
        "  -h, --help   this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  const option options[] = {{"help", no_argument, nullptr, 'h'}, {}};
  for (int letter; (letter = getopt_long(argc, argv, "h", options, nullptr)) != -1;) {
    usage(letter == 'h' ? std::cout : std::cerr);
    return letter == 'h' ? 0 : 2;
  }
  if (argc - optind != 1) {
    usage(std::cerr);
    return 2;
  }
  try {
    sample::write_png(argv[optind], draw());
  } catch (const std::exception& failure) {
    std::cerr << "sample_draw_picture: " << failure.what() << '\n';
    return 1;
  }
}
