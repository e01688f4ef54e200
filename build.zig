// For programs that are built with Zig (0.14 or later): in build.zig.zon
//
//     .dependencies = .{ .kalm_rerank = .{ .url = "...", .hash = "..." } },
//
// and in build.zig
//
//     const kalm = b.dependency("kalm_rerank", .{ .target = target, .optimize = .ReleaseFast });
//     exe.linkLibrary(kalm.artifact("kalm_rerank"));
//
// The header comes with the library: @cImport(@cInclude("kalm_rerank.h")). `zig build test` compiles and runs a program that calls
// it. The commands are made by the Makefile.
const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{ .preferred_optimize_mode = .ReleaseFast });
    // Zig adds checks for undefined behaviour to C, which cost time; the project's own tests run under them.
    const flags = [_][]const u8{ "-std=gnu99", "-fno-sanitize=undefined" };

    const module = b.createModule(.{ .target = target, .optimize = optimize, .link_libc = true });
    module.addIncludePath(b.path("."));
    module.addCSourceFile(.{ .file = b.path("packaging/kalm_rerank.c"), .flags = &flags });
    const library = b.addLibrary(.{ .name = "kalm_rerank", .root_module = module });
    library.installHeader(b.path("kalm_rerank.h"), "kalm_rerank.h");
    b.installArtifact(library);

    const program = b.createModule(.{ .target = target, .optimize = optimize, .link_libc = true });
    program.addIncludePath(b.path("."));
    program.addCSourceFile(.{ .file = b.path("packaging/test/library.c"), .flags = &flags });
    program.linkLibrary(library);
    const run = b.addRunArtifact(b.addExecutable(.{ .name = "library", .root_module = program }));
    b.step("test", "Compile and run a program that calls the library").dependOn(&run.step);
}
