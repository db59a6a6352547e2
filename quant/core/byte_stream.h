// Numbers, texts and lists as the bytes that they have in memory: what a program writes down for itself to read again.
// Nothing here outlives a build or a kind of machine; whoever keeps such bytes keeps beside them what wrote them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "quant/core/error.h"

namespace qfid::quant {

template <class T>
concept PlainBytes = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>;

class ByteWriter {
 public:
  template <PlainBytes T>
  void number(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view value) {
    number<std::uint64_t>(value.size());
    bytes_ += value;
  }
  template <PlainBytes T>
  void list(std::span<const T> values) {
    number<std::uint64_t>(values.size());
    if (!values.empty()) bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  template <PlainBytes T>
  void list(const std::vector<T>& values) {
    list(std::span<const T>(values));
  }

  const std::string& bytes() const { return bytes_; }
  std::string take() { return std::exchange(bytes_, {}); }

 private:
  std::string bytes_;
};

/// Reads what a ByteWriter wrote, which must outlive it. Error{input} where the bytes end too early.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  template <PlainBytes T>
  T number() {
    T value;
    std::memcpy(&value, next(sizeof value), sizeof value);
    return value;
  }
  std::string_view view() {
    const auto size = number<std::uint64_t>();
    check(size <= bytes_.size());
    return {next(static_cast<std::size_t>(size)), static_cast<std::size_t>(size)};
  }
  std::string text() { return std::string(view()); }
  template <PlainBytes T>
  std::vector<T> list() {
    const auto size = number<std::uint64_t>();
    check(size <= bytes_.size() / sizeof(T));
    std::vector<T> values(static_cast<std::size_t>(size));
    if (size > 0) std::memcpy(values.data(), next(values.size() * sizeof(T)), values.size() * sizeof(T));
    return values;
  }
  bool done() const { return bytes_.empty(); }
  /// What a reader knows of its own values.
  static void check(bool ok) {
    if (!ok) throw Error(ErrorKind::input, "the bytes aren't what this program writes");
  }

 private:
  const char* next(std::size_t size) {
    check(size <= bytes_.size());
    const char* const at = bytes_.data();
    bytes_.remove_prefix(size);
    return at;
  }
  std::string_view bytes_;
};

}  // namespace qfid::quant
