"""The recipe for Conan 2: `conan create packaging` from the top of the tree. The package is the header; a file of yours defines
KALM_RERANK_IMPLEMENTATION before it includes it."""

import os

from conan import ConanFile
from conan.tools.files import copy
from conan.tools.layout import basic_layout


class KalmRerank(ConanFile):
    name = "kalm_rerank"
    version = "0.1.0"
    license = "MIT"
    description = "Rerank texts with KaLM-Reranker-V1 on CPUs, in one C header"
    topics = ("reranker", "search", "neural-network", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    def layout(self):
        basic_layout(self)

    def export_sources(self):
        for name in ("kalm_rerank.h", "LICENSE"):
            copy(self, name, os.path.join(self.recipe_folder, ".."), self.export_sources_folder)

    def package(self):
        copy(self, "kalm_rerank.h", self.source_folder, os.path.join(self.package_folder, "include"))
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        if self.settings.os in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["m", "pthread"]
