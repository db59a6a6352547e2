// Codes one value and asks for a backend: enough to need the libraries, their headers and what they were linked with.
#include <iostream>

#include "kernels/registry/registry.h"
#include "quant/codec.h"

int main() {
  std::cout << "448 is code " << static_cast<int>(qfid::quant::to_e4m3(448.0F).bits) << "; backends:";
  for (const std::string_view name : qfid::kernels::backend_names())
    std::cout << " " << name << (qfid::kernels::make_backend(name)->available() ? "" : " (absent)");
  std::cout << "\n";
}
