# find_package(kalm_rerank) gives the target kalm_rerank::kalm_rerank: where the header lies, and what it links with.
# One C or C++ file of yours says #define KALM_RERANK_IMPLEMENTATION before it includes kalm_rerank.h.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
if(NOT TARGET kalm_rerank::kalm_rerank)
    add_library(kalm_rerank::kalm_rerank INTERFACE IMPORTED)
    get_filename_component(_kalm_rerank_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
    set_target_properties(kalm_rerank::kalm_rerank PROPERTIES
        INTERFACE_INCLUDE_DIRECTORIES "${_kalm_rerank_prefix}/include"
        INTERFACE_LINK_LIBRARIES "Threads::Threads$<$<PLATFORM_ID:Linux>:;m>")
    unset(_kalm_rerank_prefix)
endif()
