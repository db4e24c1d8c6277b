# The base of the product's images in tests: Python, and this machine's settings for packages.
ARG ROOT
FROM ${ROOT}
# pip's settings and certificates, where this machine has its own; nothing otherwise.
COPY machine/ /
# Debian's Python differs from the published image's: no `python`, and pip refuses to install.
RUN (command -v python > /dev/null || ln -s "$(command -v python3)" /usr/local/bin/python) \
 && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
CMD ["python3"]
