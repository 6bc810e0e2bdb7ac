// SPDX-License-Identifier: Apache-2.0
//
// png_image.h - pictures as the samples use them, and PNG files read and written by libpng.
//
// A failure throws std::runtime_error with a sentence that names the file and what was wrong with it.
#ifndef GMEM_SAMPLES_PNG_IMAGE_H
#define GMEM_SAMPLES_PNG_IMAGE_H

#include <png.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace sample {

// Three bytes a pixel, red, green, blue; rows from the top, nothing between them.
struct picture {
  std::size_t width = 0;
  std::size_t height = 0;
  std::vector<std::uint8_t> rgb;
};

inline constexpr std::size_t side_pixels_max = 16384;

// Any PNG: grey, palette, 16 bits and interlaced become plain RGB, and what is transparent lies on black.
inline picture read_png(const std::string& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, decltype(&png_image_free)> freed_at_the_end(&image, &png_image_free);
  if (png_image_begin_read_from_file(&image, path.c_str()) == 0) {
    throw std::runtime_error("cannot read " + path + " as a PNG: " + image.message);
  }
  if (image.width > side_pixels_max || image.height > side_pixels_max) {
    throw std::runtime_error(path + " is " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                             " pixels; at most " + std::to_string(side_pixels_max) + " a side are taken");
  }
  image.format = PNG_FORMAT_RGB;
  picture result{image.width, image.height, std::vector<std::uint8_t>(PNG_IMAGE_SIZE(image))};
  const png_color black{0, 0, 0};
  if (png_image_finish_read(&image, &black, result.rgb.data(), 0, nullptr) == 0) {
    throw std::runtime_error("cannot decode " + path + ": " + image.message);
  }
  return result;
}

inline void write_png(const std::string& path, const picture& source) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(source.width);
  image.height = static_cast<png_uint_32>(source.height);
  image.format = PNG_FORMAT_RGB;
  const std::unique_ptr<png_image, decltype(&png_image_free)> freed_at_the_end(&image, &png_image_free);
  if (png_image_write_to_file(&image, path.c_str(), 0, source.rgb.data(), 0, nullptr) == 0) {
    throw std::runtime_error("cannot write " + path + ": " + image.message);
  }
}

}  // namespace sample

#endif  // GMEM_SAMPLES_PNG_IMAGE_H
