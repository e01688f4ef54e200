# nix build 'git+file:.?dir=packaging' from the top of the tree, or 'github:OWNER/kalm_rerank?dir=packaging': the header, the shared
# library and the commands.
{
  description = "Rerank texts with KaLM-Reranker-V1 on CPUs, in one C header";
  inputs.nixpkgs.url = "nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forEach = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = forEach (pkgs: {
        default = pkgs.stdenv.mkDerivation {
          pname = "kalm_rerank";
          version = "0.1.0";
          src = ./..;
          nativeBuildInputs = [ pkgs.pkg-config ];
          buildInputs = with pkgs; [ sqlite utf8proc zlib zstd jansson libmicrohttpd libxml2 gmime3 ];
          enableParallelBuilding = true;
          buildPhase = "make V=1 all shared";
          installPhase = "make install PREFIX=$out";
          meta = {
            license = pkgs.lib.licenses.mit;
            mainProgram = "kalm-rerank";
          };
        };
      });
      devShells = forEach (pkgs: {
        default = pkgs.mkShell { inputsFrom = [ self.packages.${pkgs.system}.default ]; packages = [ pkgs.python3 pkgs.nodejs ]; };
      });
    };
}
