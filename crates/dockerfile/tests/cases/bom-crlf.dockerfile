# escape=`
FROM a
RUN <<E
echo `
E
ENV a=b `
 c=d
