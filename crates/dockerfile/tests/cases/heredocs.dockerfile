# escape=`
FROM a
RUN <<EOF
echo `
  $x \
EOF
RUN <<-'E O'
	#!/bin/sh
	  x
	E O
RUN <<PY
#!/usr/bin/env python3
print("<<X")
PY
RUN python3 - <<A 3<<"B" >/f
a
A
b
 B
B
RUN <<E bash
x
E
COPY --chmod=644 x <<a.txt <<"b.txt" /dir/
$a
a.txt
"b"
b.txt
ADD <<-E /f
		x
	E
RUN ["a", "<<E"]
RUN cat <<<x; x=$((1<<2)); it's <<E
RUN cat << EOF
CMD cat <<E
ONBUILD RUN <<E
x
E
COPY <<E `
 /x
y
E
RUN last
