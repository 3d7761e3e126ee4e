FROM a
RUN --mount=type=cache,target=/root/.cache,SHARING=locked,ro --mount=target=$T,from=b --network=none --security=insecure --device=vendor.com/gpu=all,required make
RUN --mount=\"source=a,b\",target=/x --mount="type=secret,id=a b" x
COPY --from=0 --chown=1:$G --chmod=u=rwX --link --parents --exclude=*.md --exclude=!a.md a b /c/
ADD --checksum=sha256:1 --keep-git-dir=true --unpack=FALSE https://x/y /z
ADD --chown= --link=false -- a /b
