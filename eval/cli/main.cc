#include "eval/cli/cli.h"

int main(int argc, char** argv) { return qfid::eval::run_cli(argc, argv); }
