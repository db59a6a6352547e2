// How the sanitizers run in the libFuzzer programs, unless ASAN_OPTIONS and UBSAN_OPTIONS say otherwise. Most inputs end in
// an exception, and each costs a search of every fake stack that finding uses of a stack after its return needs: that, and
// long stack traces of allocations, are left out for a threefold rate.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "detect_stack_use_after_return=0:malloc_context_size=2:quarantine_size_mb=16:strict_string_checks=1";
}
extern "C" const char* __ubsan_default_options();
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1"; }
