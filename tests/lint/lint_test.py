"""Shows that the lint scripts catch what they are for: trees with one planted fault each, and one without any."""

import tempfile
import unittest
from pathlib import Path

import implicit_streams
import include_direction
import sizes

CLEAN = {
    "include/gradwire/types.hpp": "#include <cstddef>\n",
    "include/gradwire/compressor.hpp": '#include "gradwire/types.hpp"\n',
    "include/gradwire/transport.hpp": '#include "gradwire/types.hpp"\n',
    "include/gradwire/hook.hpp": '#include "gradwire/transport.hpp"\n',
    "include/gradwire/gradwire.hpp": '#include "gradwire/hook.hpp"\n#include "gradwire/version.hpp"\n',
    "src/base/fail.hpp": "#include <fmt/format.h>\n",
    "src/compress/frame.hpp": '#include "base/fail.hpp"\n#include "gradwire/compressor.hpp"\n',
    "src/transport/mpi.cpp": '#include <mpi.h>\n#include "base/fail.hpp"\n',
    "src/transport/pool.hpp": "#include <vector>\n",
    "src/train/hook.cpp": '#include "gradwire/hook.hpp"\n#include "collectives/ring.hpp"\n',
    "collectives/ring.hpp": '#include "compress/frame.hpp"\n#include "gradwire/transport.hpp"\n',
    "tools/main.cpp": '#include "gradwire/gradwire.hpp"\n#include "base/fail.hpp"\n',
    "examples/allreduce/main.cpp": "#include <gradwire/gradwire.hpp>\n#include <mutex>\n",
    "bench/network/rival.cpp": "#include <mpi.h>\n",
    "tests/support/spawn.hpp": '#include "transport/pool.hpp"\n',
    "tests/ranks/mpi_test.cpp": '#include "support/spawn.hpp"\n#include <mpi.h>\n',
}

# file, its planted line, what the message must say
WRONG_ARROWS = [
    ("src/base/fail.hpp", '#include "compress/frame.hpp"', "base may not include compress"),
    ("src/base/fail.hpp", '#include "../compress/frame.hpp"', "base may not include compress"),
    ("src/base/fail.hpp", '#include "gradwire/transport.hpp"', "base may not include transport"),
    ("src/compress/frame.hpp", '#include "transport/pool.hpp"', "compress may not include transport"),
    ("src/compress/frame.hpp", '#define HWY_TARGET_INCLUDE "transport/pool.hpp"', "compress may not include transport"),
    ("src/transport/pool.hpp", '#include "gradwire/compressor.hpp"', "transport may not include compress"),
    ("src/transport/pool.hpp", "#include <gradwire/compressor.hpp>", "transport may not include compress"),
    ("src/transport/pool.hpp", "#include <mpi.h>", "only src/transport/mpi*, bench/network and tests"),
    ("src/train/hook.cpp", '#include "gradwire/gradwire.hpp"', "train may not include umbrella"),
    ("collectives/ring.hpp", '#include "gradwire/hook.hpp"', "collectives may not include train"),
    ("collectives/ring.hpp", "#  include <mpi.h>", "only src/transport/mpi*, bench/network and tests"),
    ("collectives/ring.hpp", "#include <nccl.h>", "only src/transport/nccl* and tests"),
    ("collectives/ring.hpp", "#include <cuda_runtime.h>", "only src/base/cuda*"),
    ("src/compress/frame.hpp", "#include <cub/cub.cuh>", "only src/base/cuda*"),
    ("tools/main.cpp", '#include "support/spawn.hpp"', "tools may not include tests"),
    ("src/train/hook.cpp", '#include "tests/support/spawn.hpp"', "train may not include tests"),
    ("examples/allreduce/main.cpp", '#include "base/fail.hpp"', "an example uses public headers only"),
    ("include/gradwire/types.hpp", "#include <fmt/format.h>", "public and standard headers only"),
    ("include/gradwire/types.hpp", '#include "base/fail.hpp"', "public and standard headers only"),
    ("include/gradwire/types.hpp", '#include "gradwire/hook.hpp"', "base may not include train"),
    ("include/gradwire/types.hpp", '#include "gradwire/gone.hpp"', "no such file in the tree"),
    ("src/other/other.cpp", "#include <vector>", "belongs to no layer"),
    ("include/gradwire/other.hpp", "#include <vector>", "belongs to no layer"),
    ("tools/main.cpp", '#include "src/plan/plan.hpp"', "no such file in the tree"),
]


class Tree(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)
        for path, text in CLEAN.items():
            self.write(path, text)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


class IncludeDirection(Tree):
    def test_clean_tree_has_no_problem(self):
        self.assertEqual(list(include_direction.problems(self.root)), [])

    def test_includes_in_comments_do_not_count(self):
        self.write("src/base/fail.hpp", '// #include "compress/frame.hpp"\n/*\n#include <mpi.h>\n*/\n')
        self.assertEqual(list(include_direction.problems(self.root)), [])

    def test_each_wrong_arrow_is_found_where_it_is(self):
        for path, line, expected in WRONG_ARROWS:
            with self.subTest(path=path, line=line):
                before = CLEAN.get(path, "")
                self.write(path, before + line + "\n")
                found = list(include_direction.problems(self.root))
                self.assertEqual(len(found), 1, found)
                at = 1 if "no layer" in expected else before.count("\n") + 1
                self.assertTrue(found[0].startswith(f"{path}:{at}: "), found[0])
                self.assertIn(expected, found[0])
                self.write(path, before) if before else (self.root / path).unlink()


def function_of(lines):
    return "int f(int x = 1) {\n" + "  ++x;\n" * (lines - 2) + "}\n"


class ImplicitStreams(Tree):
    def problems_of(self, line):
        self.write("src/base/cuda.cpp", "// cudaMemcpy(a, b, 1)\n" + line + "\n")
        return list(implicit_streams.problems(self.root))

    def test_what_names_its_stream_has_no_problem(self):
        for line in (
            "cudaMemcpyAsync(to, from, 1, cudaMemcpyDefault, stream);",
            "cudaMemsetAsync(to, 0, 1, stream);",
            "cudaMemcpy2DAsync (to, 1, from, 1, 1, 1, cudaMemcpyDefault, stream);",
            "cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, 0);",
            "cudaLaunchKernelEx(&config, kernel, 1);",
            'check(status, "cudaMemcpy(");',
        ):
            self.assertEqual(self.problems_of(line), [], line)

    def test_each_implicit_stream_is_found_where_it_is(self):
        for line in (
            "cudaMemcpy(to, from, 1, cudaMemcpyDefault);",
            "cudaMemset (to, 0, 1);",
            "cudaMemcpyToSymbol(to, from, 1);",
            "cudaMemcpy2D(to, 1, from, 1, 1, 1, cudaMemcpyDefault);",
            "cudaDeviceSynchronize();",
            "cudaLaunchKernel(kernel, 1, 1, arguments, 0, 0);",
            "kernel<<<1, 32>>>(x);",
            "cudaStreamCreate(&stream);",
            "cudaStreamCreateWithFlags(&stream, cudaStreamDefault);",
        ):
            found = self.problems_of(line)
            self.assertEqual(len(found), 1, line)
            self.assertTrue(found[0].startswith("src/base/cuda.cpp:2: "), found[0])


class Sizes(Tree):
    def one_problem(self, text):
        self.write("src/base/big.cpp", text)
        found = list(sizes.problems(self.root))
        self.assertEqual(len(found), 1, found)
        return found[0]

    def no_problem(self, text):
        self.write("src/base/big.cpp", text)
        self.assertEqual(list(sizes.problems(self.root)), [])

    def test_file_length(self):
        self.no_problem("int x;\n" * 400)
        self.assertIn("big.cpp:1: 401 lines", self.one_problem("int x;\n" * 401))

    def test_function_length(self):
        self.no_problem(function_of(80))
        self.assertIn("big.cpp:1: a function of 81 lines", self.one_problem(function_of(81)))

    def test_function_in_class_template_in_namespace(self):
        head = "namespace a::b {\ntemplate <class T = int>\nclass X : public Y<T> {\n public:\n"
        self.no_problem(head + function_of(80) + "};\n}\n")
        self.assertIn("big.cpp:5: a function of 81 lines", self.one_problem(head + function_of(81) + "};\n}\n"))

    def test_member_function_returning_struct_and_operator(self):
        body = "  ;\n" * 79 + "}\n"
        self.assertIn("of 81 lines", self.one_problem("struct A f() {\n" + body))
        self.assertIn("of 81 lines", self.one_problem("bool operator==(const A& a, const A& b) {\n" + body))
        self.assertIn("of 81 lines", self.one_problem("TEST(Suite, name) {\n" + body))

    def test_tables_classes_and_enums_are_no_functions(self):
        body = "  1,\n" * 100 + "};\n"
        self.no_problem("constexpr int kTable[] = {\n" + body)
        self.no_problem("enum class E : int {\n" + "  a,\n" * 100 + "};\n")
        self.no_problem("class GRADWIRE_API X {\n" + "  int f() { return 1; }\n" * 100 + "};\n")

    def test_braces_that_are_no_code(self):
        self.no_problem("char f() { return '{'; }\n" + 'auto g() { return "{" R"x({)x"; }  // {\n#define OPEN {\n')

    def test_unbalanced_braces_are_refused(self):
        self.assertIn("a brace is missing", self.one_problem("int f() {\n"))
        self.assertIn("line 2: a brace too many", self.one_problem("int f();\n}\n"))


if __name__ == "__main__":
    unittest.main()
