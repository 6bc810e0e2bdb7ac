// SPDX-License-Identifier: Apache-2.0
// object_layer.h - what the runtime has to know of the layer above it, which packs small objects into pages of theirs.
#pragma once

#include <cstdint>

namespace gm {

class object_layer {
 public:
  object_layer() = default;
  object_layer(const object_layer&) = delete;
  object_layer& operator=(const object_layer&) = delete;
  virtual ~object_layer() = default;

  virtual std::uint64_t live() const = 0;    // objects that the program has
  virtual std::uint64_t chunks() const = 0;  // allocations that objects lie in
  virtual std::uint64_t chunk_bytes() const = 0;
  virtual std::uint64_t metadata_bytes() const = 0;
  // What no object uses gives its pages back now.
  virtual void trim() = 0;
  // No object is live, and none will be: the chunks are freed. False: threads still have caches for them, so that this
  // must not be deleted; it does nothing any more, and touches nothing of the runtime.
  virtual bool close() = 0;
};

}  // namespace gm
